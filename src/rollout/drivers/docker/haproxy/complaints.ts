/** What HAProxy says when it did what it was told; most commands answer an empty line. */
const CONTENT = /^(?:New server registered\.|Server deleted\.|no need to change .*|(?:\S+ )+changed from '.*' to '.*')/;

/** Lines of an answer that refuse or complain; empty when every command was carried out. */
export function findComplaints(answer: string): string[] {
  return answer
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !CONTENT.test(line));
}
