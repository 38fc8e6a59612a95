import type { LogSink } from "../shared/log-line.ts";

/** Brings images to where a runtime's tasks fetch them from. */
export interface ImagePublisher {
  /**
   * Pushes the engine's image `digest` unless it is there, and returns the reference by digest that tasks are started from. Repeating it pushes nothing.
   * @throws IMAGE_UNAVAILABLE when the engine no longer has it, IMAGE_PUSH_FAILED, AWS_DENIED and other AWS codes
   */
  publish(image: { app: string; service: string; digest: string }, log: LogSink): Promise<string>;

  /** Removes what was pushed of the app for any other digest than these, as `publish` takes them. What was put there otherwise stays. @returns how many */
  prune(app: string, kept: string[]): Promise<number>;

  /** Removes all images of the app, and where they were. What is gone is no error; what another installation made stays. @returns what was removed */
  removeApp(app: string): Promise<string[]>;
}
