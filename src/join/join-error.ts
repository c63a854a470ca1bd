/** Why a machine has not joined, and what to do about it. */
export class JoinError extends Error {
  override readonly name = "JoinError";
  readonly hint: string | undefined;

  constructor(message: string, hint?: string) {
    super(message);
    this.hint = hint;
  }
}
