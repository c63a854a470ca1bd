import { expect, it } from "vitest";
import { decodeDocuments } from "../documents/decode-documents.ts";
import { kindByName } from "../kinds/index.ts";
import type { KindName } from "../kinds/object.ts";
import { validate } from "../validate.ts";

/** What is wrong with an object, each as `field: message`; decoding errors are errors too. */
function problemsOf(kindName: KindName, spec: string, metadata = "{ name: subject }"): { errors: string[]; warnings: string[] } {
  const kind = kindByName(kindName);
  if (!kind) throw new Error(`no kind ${kindName}`);
  const indented = spec.trim().replaceAll(/^/gm, "  ");
  const text = `apiVersion: ${kind.group}/${kind.versions[0]}\nkind: ${kindName}\nmetadata: ${metadata}\nspec:\n${indented}\n`;
  const { objects, errors } = decodeDocuments(text, "subject.yaml");
  const results = objects.map(validate);
  const describe = (problem: { field: string | undefined; message: string; position: unknown }) => {
    expect(problem.position, "every problem has a line").toMatchObject({ file: "subject.yaml", line: expect.any(Number) });
    return `${problem.field}: ${problem.message}`;
  };
  return {
    errors: [...errors, ...results.flatMap((result) => result.errors)].map(describe),
    warnings: results.flatMap((result) => result.warnings).map(describe),
  };
}

/** A spec and the beginnings of the errors and, marked `W `, warnings that it must have, no more and no fewer. */
export type SpecCase = readonly [description: string, spec: string, ...problems: string[]];

export function itChecks(kind: KindName, cases: readonly SpecCase[], metadata?: string): void {
  for (const [description, spec, ...problems] of cases) {
    it(description, () => {
      const { errors, warnings } = problemsOf(kind, spec, metadata);
      const found = [...errors, ...warnings.map((warning) => `W ${warning}`)].sort();
      const wanted = problems.toSorted();
      expect(found.map((text, index) => text.slice(0, wanted[index]?.length ?? text.length))).toEqual(wanted);
    });
  }
}
