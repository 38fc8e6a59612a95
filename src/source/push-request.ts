import { newPacketReader, type Packet, PacketError } from "./pkt-line.ts";

/** What the client asks for one ref. undefined is "no such ref": before a creation, after a deletion. */
export type RefCommand = { ref: string; oldId: string | undefined; newId: string | undefined };

/** What stands before the pack in a push request (gitprotocol-pack(5), "Reference Update Request"). */
export type PushHead = { commands: RefCommand[]; capabilities: Set<string>; options: string[] };

const NO_OBJECT = "0".repeat(40);

/** Reads the head of a push as its chunks arrive: `write` gives the head once it is complete. @throws PacketError */
export function newPushHeadReader(): { write(chunk: Buffer): PushHead | undefined } {
  const packets = newPacketReader();
  const head: PushHead = { commands: [], capabilities: new Set(), options: [] };
  let section: "commands" | "options" | "done" = "commands";

  const take = (packet: Packet) => {
    if (packet.kind === "flush") {
      section = section === "commands" && head.capabilities.has("push-options") ? "options" : "done";
    } else if (packet.kind !== "data") {
      throw new PacketError(`a ${packet.kind} packet does not belong into a push`);
    } else if (section === "commands") {
      readCommand(head, decode(packet.payload));
    } else {
      head.options.push(decode(packet.payload).replace(/\n$/, ""));
    }
  };

  return {
    write(chunk) {
      packets.write(chunk);
      while (section !== "done") {
        const packet = packets.next();
        if (packet === undefined) return undefined;
        take(packet);
      }
      return head;
    },
  };
}

function readCommand(head: PushHead, line: string): void {
  // A shallow clone first names its edges; they are git's business.
  if (line.startsWith("shallow ")) return;
  const [command = "", capabilities] = line.replace(/\n$/, "").split("\0", 2);
  // We never offer signed pushes; their commands lie inside the certificate, where we would not see them.
  if (command.startsWith("push-cert")) throw new PacketError("signed pushes (git push --signed) are not supported");
  if (capabilities !== undefined) head.capabilities = new Set(capabilities.trim().split(" "));
  const match = /^([0-9a-f]{40}) ([0-9a-f]{40}) (.+)$/s.exec(command);
  const [, oldId, newId, ref] = match ?? [];
  if (oldId === undefined || newId === undefined || ref === undefined) {
    throw new PacketError(`not a ref update: ${JSON.stringify(command.slice(0, 200))}`);
  }
  head.commands.push({ ref, oldId: presentId(oldId), newId: presentId(newId) });
}

function presentId(id: string): string | undefined {
  return id === NO_OBJECT ? undefined : id;
}

function decode(bytes: Buffer): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new PacketError("names of refs and push options must be UTF-8");
  }
}
