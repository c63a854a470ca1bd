/** `app=reviews,version!=v1,tier in (a, b),!canary`: Kubernetes' label selectors, compiled when a request arrives. */
import { ApiError } from "../status.ts";

type Labels = Readonly<Record<string, string>>;
export type LabelMatcher = (labels: Labels) => boolean;

const maxLength = 64 * 1024;
const key = "[A-Za-z0-9](?:[-A-Za-z0-9_./]*[A-Za-z0-9])?";
const value = "(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?";
const requirement = new RegExp(
  String.raw`^\s*(?:(?<key>${key})\s*(?:(?<operator>==|=|!=)\s*(?<value>${value})|\s(?<set>in|notin)\s*\((?<values>[^()]*)\)|(?<order>[<>])\s*(?<number>-?\d+))?|!\s*(?<missing>${key}))\s*$`,
);
const wholeValue = new RegExp(`^${value}$`);

/** Throws ApiError. An empty selector matches everything. */
export function parseLabelSelector(text: string): LabelMatcher {
  if (text.trim() === "") return () => true;
  if (text.length > maxLength) throw new ApiError(400, "the label selector is too long");
  const matchers = splitRequirements(text).map(parseRequirement);
  return (labels) => matchers.every((matches) => matches(labels));
}

/** At commas that are not between parentheses. */
function splitRequirements(text: string): string[] {
  return text.match(/(?:\([^()]*\)|[^,(])+/g) ?? [];
}

function parseRequirement(text: string): LabelMatcher {
  const parts = requirement.exec(text)?.groups;
  if (!parts) throw new ApiError(400, `unable to parse requirement: ${JSON.stringify(text.trim())}`);
  const has = (labels: Labels, name: string) => Object.hasOwn(labels, name);
  const { key: name = "", missing, operator, set, order } = parts;
  if (missing !== undefined) return (labels) => !has(labels, missing);
  if (set !== undefined) {
    const wanted = new Set((parts.values ?? "").split(",").map((one) => one.trim()));
    for (const one of wanted)
      if (!wholeValue.test(one)) throw new ApiError(400, `unable to parse requirement: ${JSON.stringify(one)} is no label value`);
    return set === "in"
      ? (labels) => has(labels, name) && wanted.has(labels[name]!)
      : (labels) => !(has(labels, name) && wanted.has(labels[name]!));
  }
  if (order !== undefined) {
    const bound = Number(parts.number);
    return (labels) =>
      has(labels, name) && /^-?\d+$/.test(labels[name]!) && (order === ">" ? Number(labels[name]) > bound : Number(labels[name]) < bound);
  }
  if (operator === undefined) return (labels) => has(labels, name);
  const wanted = parts.value ?? "";
  return operator === "!="
    ? (labels) => !(has(labels, name) && labels[name] === wanted)
    : (labels) => has(labels, name) && labels[name] === wanted;
}
