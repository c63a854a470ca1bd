/** envoy.filters.network.set_filter_state: names what a connection has, for later filters, its requests and the access logs. */
import { ConfigSchema } from "../../../api/gen/envoy/extensions/filters/network/set_filter_state/v3/set_filter_state_pb.js";
import { defineNetworkFilter } from "../../listener/network-filter.ts";
import { FilterState } from "../../stream-info.ts";
import { compileFilterStateValues } from "../filter-state-values.ts";

export const setFilterState = defineNetworkFilter({
  name: "envoy.filters.network.set_filter_state",
  schema: ConfigSchema,
  create(config, _context, name) {
    const set = compileFilterStateValues(config.onNewConnection);
    return {
      name,
      onConnection({ info, streamInfo }) {
        info.filterState ??= new FilterState();
        set(streamInfo, info.filterState);
        return null;
      },
      dispose() {},
    };
  },
});
