import type { StoredEvent } from "./event.ts";

export function narrateImages(_event: StoredEvent): string[] {
  return [];
}
