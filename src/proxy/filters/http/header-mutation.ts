/**
 * envoy.filters.http.header_mutation: edits of headers at the filter's place in the chain, where those of routes are made at its end.
 * The filter's own come first, then those of routes, the most specific level first unless it is to have the last word.
 */
import { ConfigError } from "../../../api/config-error.ts";
import type { HeaderMutation as MutationMessage } from "../../../api/gen/envoy/config/common/mutation_rules/v3/mutation_rules_pb.js";
import {
  type HeaderMutation,
  HeaderMutationPerRouteSchema,
  HeaderMutationSchema,
  type Mutations as MutationsMessage,
} from "../../../api/gen/envoy/extensions/filters/http/header_mutation/v3/header_mutation_pb.js";
import { defineHttpFilter, type FilterStatus, type HttpFilter } from "../../http/http-filter.ts";
import type { HttpStream } from "../../http/http-stream.ts";
import { applyHeaderEdits, compileHeaderEdits, type HeaderEdit } from "../../router/header-mutation.ts";
import { disabledFilter } from "./disabled-filter.ts";

interface Mutations {
  readonly request: readonly HeaderEdit[];
  readonly response: readonly HeaderEdit[];
}

class HeaderMutationFilter implements HttpFilter {
  readonly name: string;
  readonly #own: Mutations;
  readonly #mostSpecificWins: boolean;

  constructor(name: string, config: HeaderMutation) {
    this.name = name;
    this.#own = compileMutations(config.mutations);
    this.#mostSpecificWins = config.mostSpecificHeaderMutationsWins;
  }

  onRequestHeaders(stream: HttpStream): FilterStatus {
    this.#apply(stream, "request");
    return "continue";
  }

  onResponseHeaders(stream: HttpStream): FilterStatus {
    this.#apply(stream, "response");
    return "continue";
  }

  #apply(stream: HttpStream, side: keyof Mutations): void {
    const { info } = stream;
    const headers = side === "request" ? info.requestHeaders : info.responseHeaders;
    if (stream.perFilterConfig(this.name) === disabledFilter) return;
    applyHeaderEdits(this.#own[side], headers, info);
    const levels = [...stream.perFilterConfigs(this.name)];
    if (!this.#mostSpecificWins) levels.reverse();
    for (const level of levels) if (level !== disabledFilter) applyHeaderEdits((level as Mutations)[side], headers, info);
  }
}

function compileMutations(message: MutationsMessage | undefined): Mutations {
  return { request: compileEdits(message?.requestMutations ?? []), response: compileEdits(message?.responseMutations ?? []) };
}

/** In their order, where headers_to_add of a route has an order of its own. */
function compileEdits(mutations: readonly MutationMessage[]): HeaderEdit[] {
  return mutations.flatMap(({ action }) => {
    switch (action.case) {
      case "append":
        return compileHeaderEdits([action.value], []);
      case "remove":
        return compileHeaderEdits([], [action.value]);
      default:
        throw new ConfigError("HeaderMutation: action: value is required");
    }
  });
}

export const headerMutation = defineHttpFilter({
  name: "envoy.filters.http.header_mutation",
  schema: HeaderMutationSchema,
  create: (config, _context, name) => new HeaderMutationFilter(name, config),
  perRoute: { schema: HeaderMutationPerRouteSchema, compile: ({ mutations }) => compileMutations(mutations) },
});
