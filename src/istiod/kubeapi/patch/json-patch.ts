/** JSON patch, RFC 6902, with pointers of RFC 6901. All operations are done or none. */
import { isDeepStrictEqual } from "node:util";
import { isPlainObject } from "../../../api/schema/decode.ts";
import { PatchError } from "./patch-error.ts";

/** Kubernetes' own limits. */
const maxOperations = 10_000;
const maxCopiedBytes = 3 * 1024 * 1024;

interface Operation {
  readonly op: string;
  readonly path: string;
  readonly from?: unknown;
  readonly value?: unknown;
}

/** Throws PatchError. `target` is not changed. */
export function jsonPatch(target: unknown, patch: unknown): unknown {
  if (!Array.isArray(patch)) throw new PatchError(400, "a JSON patch is a list of operations");
  if (patch.length > maxOperations) throw new PatchError(400, `a JSON patch has at most ${maxOperations} operations`);
  // A holder, so that the root is a field like any other.
  const holder = { root: structuredClone(target) };
  let copiedBytes = 0;
  for (const [index, operation] of patch.entries()) {
    if (!isOperation(operation)) throw new PatchError(400, `operation ${index} needs "op" and "path"`);
    const { op, path } = operation;
    switch (op) {
      case "add":
        add(holder, path, given(operation, index));
        break;
      case "remove":
        remove(holder, path);
        break;
      case "replace":
        replace(holder, path, given(operation, index));
        break;
      case "test":
        if (!isDeepStrictEqual(get(holder, path), given(operation, index)))
          throw new PatchError(422, `testing path ${path} value failed: test failed`);
        break;
      case "copy": {
        const value = get(holder, from(operation, index));
        copiedBytes += JSON.stringify(value).length;
        if (copiedBytes > maxCopiedBytes) throw new PatchError(400, `a JSON patch copies at most ${maxCopiedBytes} bytes`);
        add(holder, path, structuredClone(value));
        break;
      }
      case "move": {
        const source = from(operation, index);
        if (path.startsWith(`${source}/`)) throw new PatchError(422, `${source} can't be moved into itself`);
        add(holder, path, remove(holder, source));
        break;
      }
      default:
        throw new PatchError(400, `operation ${index}: unknown op ${JSON.stringify(op)}`);
    }
  }
  return holder.root;
}

function isOperation(value: unknown): value is Operation {
  return isPlainObject(value) && typeof value.op === "string" && typeof value.path === "string";
}

function given(operation: Operation, index: number): unknown {
  if (!Object.hasOwn(operation, "value")) throw new PatchError(400, `operation ${index} (${operation.op}) needs "value"`);
  return operation.value;
}

function from(operation: Operation, index: number): string {
  if (typeof operation.from !== "string") throw new PatchError(400, `operation ${index} (${operation.op}) needs "from"`);
  return operation.from;
}

type Container = Record<string, unknown> | unknown[];

/** The object or list that holds what the pointer names, and the key in it. */
function locate(holder: { root: unknown }, pointer: string): { container: Container; key: string } {
  if (pointer !== "" && !pointer.startsWith("/")) throw new PatchError(400, `${JSON.stringify(pointer)} is not a JSON pointer`);
  const keys = pointer
    .split("/")
    .slice(1)
    .map((token) => token.replaceAll("~1", "/").replaceAll("~0", "~"));
  let container: Container = holder;
  let key = "root";
  for (const next of keys) {
    const inner: unknown = childOf(container, key);
    if (!isPlainObject(inner) && !Array.isArray(inner)) throw absent(pointer);
    [container, key] = [inner, next];
  }
  if (key === "__proto__") throw new PatchError(400, 'the object has a key "__proto__"');
  return { container, key };
}

function absent(pointer: string): PatchError {
  return new PatchError(422, `the path ${pointer} does not exist`);
}

/** Undefined when there is none; JSON has no undefined. */
function childOf(container: Container, key: string): unknown {
  if (!Array.isArray(container)) return Object.hasOwn(container, key) ? container[key] : undefined;
  return isIndex(key) ? container[Number(key)] : undefined;
}

function isIndex(key: string): boolean {
  return /^(0|[1-9]\d{0,8})$/.test(key);
}

function get(holder: { root: unknown }, pointer: string): unknown {
  const { container, key } = locate(holder, pointer);
  const value = childOf(container, key);
  if (value === undefined) throw absent(pointer);
  return value;
}

function add(holder: { root: unknown }, pointer: string, value: unknown): void {
  const { container, key } = locate(holder, pointer);
  if (!Array.isArray(container)) {
    container[key] = value;
    return;
  }
  const index = key === "-" ? container.length : isIndex(key) ? Number(key) : Number.NaN;
  if (!(index <= container.length)) throw new PatchError(422, `${pointer}: no such place in a list of ${container.length}`);
  container.splice(index, 0, value);
}

function replace(holder: { root: unknown }, pointer: string, value: unknown): void {
  const { container, key } = locate(holder, pointer);
  if (childOf(container, key) === undefined) throw absent(pointer);
  (container as Record<string, unknown>)[key] = value;
}

function remove(holder: { root: unknown }, pointer: string): unknown {
  const { container, key } = locate(holder, pointer);
  const value = childOf(container, key);
  if (value === undefined) throw absent(pointer);
  if (Array.isArray(container)) container.splice(Number(key), 1);
  else delete container[key];
  return value;
}
