/** Where in a user's text something stands. Lines and columns count from 1. */
export interface SourcePosition {
  readonly file: string;
  readonly line: number;
  readonly column?: number;
}

export interface ConfigErrorOptions {
  /** The object's kind, `VirtualService`; absent when the text did not get that far. */
  readonly kind?: string | undefined;
  readonly namespace?: string | undefined;
  readonly name?: string | undefined;
  /** Path of the field, `spec.http[0].route[1].weight`. */
  readonly field?: string | undefined;
  readonly position?: SourcePosition | undefined;
  readonly hint?: string | undefined;
  readonly cause?: unknown;
}

/** Something that a user wrote and that can't be taken. `message` is the reason alone; `describe` adds the place. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  readonly kind: string | undefined;
  readonly objectNamespace: string | undefined;
  readonly objectName: string | undefined;
  readonly field: string | undefined;
  readonly position: SourcePosition | undefined;
  readonly hint: string | undefined;

  constructor(message: string, options: ConfigErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.kind = options.kind;
    this.objectNamespace = options.namespace;
    this.objectName = options.name;
    this.field = options.field;
    this.position = options.position;
    this.hint = options.hint;
  }

  /** `mesh.yaml:12: VirtualService default/reviews: spec.http[0].route: is empty` */
  describe(): string {
    const place = this.position ? `${this.position.file}:${this.position.line}: ` : "";
    const object = [this.kind, [this.objectNamespace, this.objectName].filter((part) => part !== undefined).join("/")]
      .filter(Boolean)
      .join(" ");
    const field = this.field ? `${this.field}: ` : "";
    return `${place}${object ? `${object}: ` : ""}${field}${this.message}`;
  }
}
