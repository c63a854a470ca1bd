/** `metadata.name=reviews,metadata.namespace!=kube-system`: by the few fields that a kind lets itself be chosen by. */
import type { Kind } from "../../../api/kinds/kind.ts";
import { type RawObject, textAt } from "../../../api/kinds/raw-fields.ts";
import { ApiError } from "../status.ts";

export interface FieldSelector {
  readonly matches: (raw: RawObject) => boolean;
  /** The one name that can match, if the selector says so. */
  readonly name: string | undefined;
}

const common: Kind["selectableFields"] = {
  "metadata.name": (raw) => textAt(raw, "metadata", "name"),
  "metadata.namespace": (raw) => textAt(raw, "metadata", "namespace"),
};

/** Throws ApiError. An empty selector matches everything. */
export function parseFieldSelector(text: string, kind: Kind): FieldSelector {
  const terms = text
    .split(/(?<!\\),/)
    .filter((term) => term.trim() !== "")
    .map((term) => parseTerm(term.trim(), kind));
  return {
    matches: (raw) => terms.every((term) => (term.read(raw) === term.value) === term.isEqual),
    name: terms.find((term) => term.field === "metadata.name" && term.isEqual)?.value,
  };
}

function parseTerm(term: string, kind: Kind) {
  const { field, operator, value } = /^(?<field>[^=!]+)(?<operator>==|=|!=)(?<value>.*)$/s.exec(term)?.groups ?? {};
  if (field === undefined || value === undefined) throw new ApiError(400, `invalid selector: ${JSON.stringify(term)}; can't understand it`);
  const selectable = { ...common, ...kind.selectableFields };
  if (!Object.hasOwn(selectable, field))
    throw new ApiError(
      400,
      `${JSON.stringify(field)} is not a known field selector: only ${Object.keys(selectable)
        .map((one) => JSON.stringify(one))
        .join(", ")}`,
    );
  return { field, isEqual: operator !== "!=", value: value.replaceAll(/\\([\\,=])/g, "$1"), read: selectable[field]! };
}
