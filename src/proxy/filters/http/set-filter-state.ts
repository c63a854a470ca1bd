/** envoy.filters.http.set_filter_state: names what a request has, for later filters and the access log. */
import { ConfigSchema } from "../../../api/gen/envoy/extensions/filters/http/set_filter_state/v3/set_filter_state_pb.js";
import { defineHttpFilter } from "../../http/http-filter.ts";
import { FilterState } from "../../stream-info.ts";
import { compileFilterStateValues } from "../filter-state-values.ts";

export const setFilterState = defineHttpFilter({
  name: "envoy.filters.http.set_filter_state",
  schema: ConfigSchema,
  create(config, _context, name) {
    const set = compileFilterStateValues(config.onRequestHeaders);
    return {
      name,
      onRequestHeaders({ info }) {
        info.filterState ??= new FilterState();
        set(info, info.filterState);
        return "continue";
      },
    };
  },
});
