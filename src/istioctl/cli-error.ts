/** A command's failure as the user sees it: `Error: message` on standard error, and an exit code. */
export class CliError extends Error {
  override readonly name = "CliError";
  /** 1 for a failure, 64 (EX_USAGE) for a wrong command line. */
  readonly exitCode: number;

  constructor(message: string, options: { readonly exitCode?: number; readonly cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.exitCode = options.exitCode ?? 1;
  }
}
