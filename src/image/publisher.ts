import type { LogSink } from "../shared/log-line.ts";

export type PublishedImage = { app: string; service: string; digest: string; name?: string };

/** Brings images to where a runtime's tasks fetch them from. */
export interface ImagePublisher {
  /**
   * Brings an image there unless it is there, and returns what tasks are started from. `digest` is the engine's content id, or a registry's reference by digest; `name` is
   * what the image is kept as where it has no other name. Repeating it moves nothing.
   * @throws IMAGE_UNAVAILABLE when it is gone, IMAGE_PUSH_FAILED, DOCKER_UNREACHABLE, AWS_DENIED and other AWS codes
   */
  publish(image: PublishedImage, log: LogSink): Promise<string>;

  /** Removes what was pushed of the app for any other digest than these, as `publish` takes them. What was put there otherwise stays. @returns how many */
  prune(app: string, kept: string[]): Promise<number>;

  /** Removes all images of the app, and where they were. What is gone is no error; what another installation made stays. @returns what was removed */
  removeApp(app: string): Promise<string[]>;
}
