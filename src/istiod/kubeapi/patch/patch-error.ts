/** A patch that can't be applied: it is not one (400), or does not fit the object (422). */
export class PatchError extends Error {
  override readonly name = "PatchError";
  readonly code: 400 | 422;

  constructor(code: 400 | 422, message: string) {
    super(message);
    this.code = code;
  }
}
