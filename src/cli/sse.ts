import { createParser, type EventSourceMessage } from "eventsource-parser";

/** The messages of one server-sent-events body, in order. Ends when the body ends; throws what reading it throws. */
export async function* readMessages(body: AsyncIterable<Uint8Array>): AsyncGenerator<EventSourceMessage> {
  const decoder = new TextDecoder();
  const arrived: EventSourceMessage[] = [];
  const parser = createParser({ onEvent: (message) => arrived.push(message) });
  for await (const chunk of body) {
    parser.feed(decoder.decode(chunk, { stream: true }));
    yield* arrived.splice(0);
  }
}
