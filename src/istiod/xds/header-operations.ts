/** Header edits of a VirtualService to Envoy's lists. Source: Istio route.go (TranslateHeadersOperations). */
import { create } from "@bufbuild/protobuf";
import {
  type HeaderValueOption,
  HeaderValueOption_HeaderAppendAction,
  HeaderValueOptionSchema,
} from "../../api/gen/envoy/config/core/v3/base_pb.js";
import type { Headers } from "../../api/kinds/virtual-service.ts";

export interface HeaderEdits {
  readonly requestHeadersToAdd: HeaderValueOption[];
  readonly requestHeadersToRemove: string[];
  readonly responseHeadersToAdd: HeaderValueOption[];
  readonly responseHeadersToRemove: string[];
  /** A new Host, which is no header edit to Envoy but a rewrite. */
  readonly authority: string;
}

export function headerEdits(headers: Headers | undefined): HeaderEdits {
  let authority = "";
  const requestHeadersToAdd: HeaderValueOption[] = [];
  const { request, response } = headers ?? {};
  const add = (list: HeaderValueOption[], entries: Record<string, string>, append: boolean, isRequest: boolean) => {
    for (const key of Object.keys(entries).sort()) {
      if (isRequest && isAuthority(key)) authority = entries[key]!;
      else list.push(headerValue(key, entries[key]!, append));
    }
  };
  add(requestHeadersToAdd, request?.set ?? {}, false, true);
  add(requestHeadersToAdd, request?.add ?? {}, true, true);
  const responseHeadersToAdd: HeaderValueOption[] = [];
  add(responseHeadersToAdd, response?.set ?? {}, false, false);
  add(responseHeadersToAdd, response?.add ?? {}, true, false);
  return {
    requestHeadersToAdd,
    // Envoy refuses to remove pseudo headers and Host; Istio leaves them out.
    requestHeadersToRemove: (request?.remove ?? []).filter((name) => !name.startsWith(":") && !isAuthority(name)),
    responseHeadersToAdd,
    responseHeadersToRemove: [...(response?.remove ?? [])],
    authority,
  };
}

function headerValue(key: string, value: string, append: boolean): HeaderValueOption {
  return create(HeaderValueOptionSchema, {
    header: { key, value },
    appendAction: append
      ? HeaderValueOption_HeaderAppendAction.APPEND_IF_EXISTS_OR_ADD
      : HeaderValueOption_HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
  });
}

function isAuthority(name: string): boolean {
  const lower = name.toLowerCase();
  return lower === "host" || lower === ":authority";
}
