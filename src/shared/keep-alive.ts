import type { WebSocket } from "ws";

/**
 * Ends a connection whose other side does not answer: a network that ends without a word is noticed by that. While nobody reads the connection (`pause`),
 * an answer is not read either, and nothing is concluded. Returns what stops it.
 */
export function keepAlive(socket: WebSocket, everyMs: number): () => void {
  let isAlive = true;
  const note = () => {
    isAlive = true;
  };
  socket.on("pong", note);
  socket.on("message", note);
  const timer = setInterval(() => {
    if (!isAlive && !socket.isPaused) return socket.terminate();
    isAlive = socket.isPaused;
    socket.ping();
  }, everyMs).unref();
  return () => clearInterval(timer);
}

/** The same from the other side, which is asked every now and then: nothing for so long, though it was read, is the end. */
export function endSilence(socket: WebSocket, withinMs: number): void {
  const judge = () => {
    if (socket.isPaused) timer.refresh();
    else socket.terminate();
  };
  const timer = setTimeout(judge, withinMs).unref();
  socket.on("ping", () => void timer.refresh());
  socket.on("message", () => void timer.refresh());
  socket.once("close", () => clearTimeout(timer));
}
