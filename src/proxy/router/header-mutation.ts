/**
 * `*_headers_to_add` and `*_headers_to_remove` of all levels, compiled into one array of edits in the order in which Envoy
 * makes them. A value without `%` is a constant; others are compiled access log formats.
 */
import { ConfigError } from "../../api/config-error.ts";
import { type HeaderValueOption, HeaderValueOption_HeaderAppendAction } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import { compileFormat } from "../accesslog/format.ts";
import { hasHeader, removeHeader } from "../http/header-list.ts";
import type { HeaderList, StreamInfo } from "../stream-info.ts";

export type HeaderValueFormat = string | ((info: StreamInfo) => string);

export interface HeaderEdit {
  readonly name: string;
  readonly action: "append" | "addIfAbsent" | "overwrite" | "overwriteIfExists" | "remove";
  readonly value: HeaderValueFormat;
  readonly keepsEmpty: boolean;
}

const actions: Record<HeaderValueOption_HeaderAppendAction, HeaderEdit["action"]> = {
  [HeaderValueOption_HeaderAppendAction.APPEND_IF_EXISTS_OR_ADD]: "append",
  [HeaderValueOption_HeaderAppendAction.ADD_IF_ABSENT]: "addIfAbsent",
  [HeaderValueOption_HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD]: "overwrite",
  [HeaderValueOption_HeaderAppendAction.OVERWRITE_IF_EXISTS]: "overwriteIfExists",
};

export function compileHeaderValue(text: string): HeaderValueFormat {
  return text.includes("%") ? compileFormat(text, { omitEmpty: true }) : text;
}

/** The edits of one level: it adds, then it removes. */
export function compileHeaderEdits(toAdd: readonly HeaderValueOption[], toRemove: readonly string[]): HeaderEdit[] {
  const edits: HeaderEdit[] = [];
  for (const option of toAdd) {
    if (option.header === undefined) throw new ConfigError("HeaderValueOption: header is required");
    const name = option.header.key.toLowerCase();
    checkName(name);
    const action =
      option.append === undefined ? actions[option.appendAction] : option.append ? ("append" as const) : ("overwrite" as const);
    if (action === undefined) throw new ConfigError(`HeaderValueOption: append_action ${option.appendAction} is not defined`);
    const text = option.header.rawValue.length > 0 ? Buffer.from(option.header.rawValue).toString("latin1") : option.header.value;
    edits.push({ name, action, value: compileHeaderValue(text), keepsEmpty: option.keepEmptyValue });
  }
  // Within a level Envoy overwrites before it adds.
  const overwrites = (edit: HeaderEdit) => (edit.action === "overwrite" || edit.action === "overwriteIfExists" ? 0 : 1);
  edits.sort((a, b) => overwrites(a) - overwrites(b));
  for (const removed of toRemove) {
    const name = removed.toLowerCase();
    if (name.startsWith(":") || name === "host") throw new ConfigError(":-prefixed or host headers may not be removed");
    edits.push({ name, action: "remove", value: "", keepsEmpty: false });
  }
  return edits;
}

function checkName(name: string): void {
  if (name === "") throw new ConfigError("HeaderValue: key is required");
  if (name.startsWith(":") || name === "host") throw new ConfigError(":-prefixed or host headers may not be modified");
}

/** Hot where a route has edits. */
export function applyHeaderEdits(edits: readonly HeaderEdit[], headers: HeaderList, info: StreamInfo): void {
  for (let i = 0; i < edits.length; i++) {
    const edit = edits[i]!;
    if (edit.action === "remove") {
      removeHeader(headers, edit.name);
      continue;
    }
    const value = typeof edit.value === "string" ? edit.value : edit.value(info);
    if (value === "" && !edit.keepsEmpty) continue;
    switch (edit.action) {
      case "append":
        headers.push(edit.name, value);
        break;
      case "addIfAbsent":
        if (!hasHeader(headers, edit.name)) headers.push(edit.name, value);
        break;
      case "overwrite":
        removeHeader(headers, edit.name);
        headers.push(edit.name, value);
        break;
      default:
        if (removeHeader(headers, edit.name)) headers.push(edit.name, value);
    }
  }
}
