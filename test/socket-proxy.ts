import { rm } from "node:fs/promises";
import { connect, createServer, type Server, type Socket } from "node:net";

/** A Unix socket that leads to another one, and can be cut as if the program behind it had died. */
export type SocketProxy = {
  path: string;
  /** Ends every connection and takes no new ones: the socket is gone. */
  cut(): Promise<void>;
  restore(): Promise<void>;
  close(): Promise<void>;
};

export async function startSocketProxy(path: string, target: string): Promise<SocketProxy> {
  const open = new Set<Socket>();
  let server: Server | undefined;

  const track = (socket: Socket) => {
    open.add(socket);
    socket.on("close", () => open.delete(socket)).on("error", () => undefined);
  };
  const accept = (client: Socket) => {
    track(client);
    const upstream = connect(target);
    track(upstream);
    // Docker half-closes the streams of `attach` and `exec`, so both ends go their own way.
    client.pipe(upstream).pipe(client);
    client.on("close", () => upstream.destroy());
    upstream.on("close", () => client.destroy());
  };
  const listen = () =>
    new Promise<void>((resolve, reject) => {
      server = createServer({ allowHalfOpen: true }, accept).once("error", reject).listen(path, resolve);
    });
  const cut = async () => {
    const closed = new Promise((resolve) => (server ? server.close(resolve) : resolve(undefined)));
    server = undefined;
    for (const socket of open) socket.destroy();
    await closed;
    await rm(path, { force: true });
  };
  await listen();
  return {
    path,
    cut,
    close: cut,
    restore: listen,
  };
}
