/**
 * Resolves when this process is told to stop. To be called before anything is started: the first process of a container is not ended by a signal
 * that nobody listens for yet, it does not even hear of it.
 */
export function toldToStop(): Promise<void> {
  return new Promise((resolve) => {
    process.once("SIGINT", () => resolve());
    process.once("SIGTERM", () => resolve());
  });
}
