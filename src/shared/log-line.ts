/** One line of output. `at` is milliseconds since 1970. `meta` lines are Shipway's own remarks between the program's lines. */
export type LogLine = { at: number; stream: "out" | "err" | "meta"; text: string };

/** Takes lines in order. Never throws and never blocks the producer. */
export type LogSink = (lines: LogLine[]) => void;

/** Cuts a stream of chunks into lines; `end()` gives what is left without a newline. `\r` progress keeps its last state. */
export function newLineSplitter(onLine: (text: string) => void): { write(chunk: Buffer | string): void; end(): void } {
  const decoder = new TextDecoder();
  let rest = "";
  const emit = (line: string) => onLine(lastState(line));
  return {
    write(chunk) {
      rest += typeof chunk === "string" ? chunk : decoder.decode(chunk, { stream: true });
      const lines = rest.split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) emit(line);
    },
    end() {
      if (rest !== "") emit(rest);
      rest = "";
    },
  };
}

function lastState(line: string): string {
  const trimmed = line.endsWith("\r") ? line.slice(0, -1) : line;
  return trimmed.slice(trimmed.lastIndexOf("\r") + 1);
}
