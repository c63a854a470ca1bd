/** Names and indices from an object's root to a field: `["spec", "http", 0, "route"]`. */
export type FieldPath = readonly (string | number)[];

export interface FieldProblem {
  readonly severity: "error" | "warning";
  readonly path: FieldPath;
  readonly message: string;
}

/**
 * Where decoding and validation write what they find: a list of problems shared by all reports of one object, and the
 * path at which this report stands. `at` goes down; nothing is formatted unless a problem is found.
 */
export class FieldReport {
  readonly #problems: FieldProblem[];
  readonly #parent: FieldReport | undefined;
  readonly #key: string | number;

  constructor(problems: FieldProblem[] = [], parent?: FieldReport, key: string | number = "") {
    this.#problems = problems;
    this.#parent = parent;
    this.#key = key;
  }

  /** The report of a field below this one. */
  at(...keys: (string | number)[]): FieldReport {
    let report: FieldReport = this;
    for (const key of keys) report = new FieldReport(this.#problems, report, key);
    return report;
  }

  error(message: string): void {
    this.#problems.push({ severity: "error", path: this.path, message });
  }

  warn(message: string): void {
    this.#problems.push({ severity: "warning", path: this.path, message });
  }

  get path(): FieldPath {
    const path: (string | number)[] = [];
    for (let report: FieldReport = this; report.#parent; report = report.#parent) path.push(report.#key);
    return path.reverse();
  }

  get problems(): readonly FieldProblem[] {
    return this.#problems;
  }

  get hasErrors(): boolean {
    return this.#problems.some((problem) => problem.severity === "error");
  }
}

/** `spec.http[0].match[0].headers["end-user"].exact` */
export function formatPath(path: FieldPath): string {
  let text = "";
  for (const key of path) {
    if (typeof key === "number") text += `[${key}]`;
    else if (/^[A-Za-z_][A-Za-z0-9_]*$/.test(key)) text += text === "" ? key : `.${key}`;
    else text += `[${JSON.stringify(key)}]`;
  }
  return text;
}
