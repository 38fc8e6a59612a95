import type { Workshop } from "./demo-workshop.ts";

/** What differs between the demo on Docker and on ECS. */
export type Scene = {
  /** Said before anything starts: what is real here and what is not. */
  intro: string[];
  /** What the first two stages are called. */
  names: { start: string; firstPush: string };
  /** The site's name, as requests say it. */
  host: string;
  /** Starts what Shipway needs here, and gives the variables its server is started with. */
  open(workshop: Workshop): Promise<Record<string, string>>;
  /** The site's port on the loopback address. */
  port(workshop: Workshop): number;
  /** Changes the sample product for where it runs, and says what it changes. */
  adapt(workshop: Workshop): Promise<void>;
  /** What is set between the making of the app and its first push. */
  configure(workshop: Workshop): Promise<void>;
  /** Something changed by hand, seen and put back; undefined where it cannot be shown. */
  byHand: ((workshop: Workshop) => Promise<void>) | undefined;
  /** Where a visitor looks. */
  outro(workshop: Workshop): string;
  /** What else there is to explore, when the demo stays up. */
  explore(): string[];
  /** Said at the end, below what was counted. */
  epilogue: string[];
  /** After the server ended. */
  close(): Promise<void>;
};
