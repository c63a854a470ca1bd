/**
 * Conditions of policies as trees that can be worked out in part.
 *
 * Much of what a policy asks (the client's certificate, addresses, ports, the server name) can't change while a connection
 * lasts. `resolve` answers those parts for one connection and leaves what requests decide:
 *
 *      and(is alice, path /a or /b)    alice's connection: path /a or /b      bob's: never
 */
import type { Subject } from "./subject.ts";

export interface Condition {
  /** Who decides: nobody, the connection, the request, or both of them in different parts. */
  readonly scope: "constant" | "connection" | "mixed" | "request";
  test(subject: Subject): boolean;
  /** What is left of it on the subject's connection. */
  resolve(subject: Subject): Condition;
}

const constant = (value: boolean): Condition => {
  const made: Condition = { scope: "constant", test: () => value, resolve: () => made };
  return made;
};

export const always = constant(true);
export const never = constant(false);

export function ofConnection(test: (subject: Subject) => boolean): Condition {
  return { scope: "connection", test, resolve: (subject) => (test(subject) ? always : never) };
}

export function ofRequest(test: (subject: Subject) => boolean): Condition {
  const made: Condition = { scope: "request", test, resolve: () => made };
  return made;
}

export function all(conditions: readonly Condition[]): Condition {
  if (conditions.includes(never)) return never;
  const parts = conditions.filter((condition) => condition !== always);
  if (parts.length === 0) return always;
  if (parts.length === 1) return parts[0]!;
  return composed(parts, all, (subject) => {
    for (let i = 0; i < parts.length; i++) if (!parts[i]!.test(subject)) return false;
    return true;
  });
}

export function any(conditions: readonly Condition[]): Condition {
  if (conditions.includes(always)) return always;
  const parts = conditions.filter((condition) => condition !== never);
  if (parts.length === 0) return never;
  if (parts.length === 1) return parts[0]!;
  return composed(parts, any, (subject) => {
    for (let i = 0; i < parts.length; i++) if (parts[i]!.test(subject)) return true;
    return false;
  });
}

export function not(condition: Condition): Condition {
  if (condition === always) return never;
  if (condition === never) return always;
  return composed(
    [condition],
    ([only]) => not(only!),
    (subject) => !condition.test(subject),
  );
}

function composed(
  parts: readonly Condition[],
  compose: (parts: readonly Condition[]) => Condition,
  test: (subject: Subject) => boolean,
): Condition {
  const scope = scopeOf(parts);
  const resolve = (subject: Subject): Condition => {
    if (scope === "request") return made;
    if (scope === "connection") return test(subject) ? always : never;
    return compose(parts.map((part) => part.resolve(subject)));
  };
  const made: Condition = { scope, test, resolve };
  return made;
}

function scopeOf(parts: readonly Condition[]): Condition["scope"] {
  const first = parts[0]!.scope;
  return parts.every((part) => part.scope === first) ? first : "mixed";
}
