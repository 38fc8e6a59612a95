/**
 * Questions asked within one turn of the event loop are answered by few calls: one of `load` for each `atMost` keys.
 * Every asker gets the answers to its own keys; keys without an answer are left out. An error goes to all askers of that call.
 */
export function newBatcher<T>(
  atMost: number,
  load: (keys: string[]) => Promise<ReadonlyMap<string, T>>,
): (keys: string[]) => Promise<Map<string, T>> {
  let waiting: { keys: Set<string>; answer: Promise<Map<string, T>> } | undefined;
  const ask = async (keys: Set<string>): Promise<Map<string, T>> => {
    await new Promise((resolve) => setImmediate(resolve));
    waiting = undefined;
    const all = [...keys].sort();
    const chunks = Array.from({ length: Math.ceil(all.length / atMost) }, (_, index) =>
      all.slice(index * atMost, (index + 1) * atMost),
    );
    const answers = await Promise.all(chunks.map(load));
    return new Map(answers.flatMap((one) => [...one]));
  };
  return async (keys) => {
    if (keys.length === 0) return new Map();
    if (waiting === undefined) {
      const set = new Set<string>();
      waiting = { keys: set, answer: ask(set) };
    }
    const { keys: set, answer } = waiting;
    for (const key of keys) set.add(key);
    const all = await answer;
    return new Map(keys.flatMap((key) => (all.has(key) ? [[key, all.get(key) as T]] : [])));
  };
}
