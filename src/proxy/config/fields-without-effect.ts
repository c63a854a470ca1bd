/**
 * What of a resource is accepted and not acted on. Somebody who configured it has to be told, or takes it for working.
 *
 * The table has a line for each message type with the fields that Envoy acts on and this proxy does not; whoever implements
 * one takes it out. Fields whose absence nobody can notice (statistics' details, buffer tuning, accept batching) aren't in it.
 */
import type { DescMessage, Message } from "@bufbuild/protobuf";
import type { ReflectMessage } from "@bufbuild/protobuf/reflect";
import { envoyTypes } from "../../api/envoy/type-registry.ts";
import { walkMessages } from "../../api/envoy/walk-messages.ts";
import type { HttpConnectionManager } from "../../api/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";

/** Type name without `envoy.` and the version -> names of its fields, separated by spaces. */
const fieldsWithoutEffect: Readonly<Record<string, string>> = {
  "config.cluster.Cluster":
    "lb_subset_config use_tcp_for_dns_lookups cleanup_interval lrs_server track_timeout_budgets upstream_config preconnect_policy connection_pool_per_downstream_connection",
  "config.cluster.Cluster.CommonLbConfig": "close_connections_on_host_set_change override_host_status",
  "config.cluster.Cluster.CommonLbConfig.ZoneAwareLbConfig": "routing_enabled min_cluster_size",
  "config.cluster.Cluster.OriginalDstLbConfig": "metadata_key",
  "config.cluster.UpstreamConnectionOptions": "set_local_interface_name_on_upstream_connections happy_eyeballs_config",
  "config.core.BindConfig": "freebind socket_options local_address_selector",
  "config.core.DnsResolverOptions": "use_tcp_for_dns_lookups",
  "config.core.Http1ProtocolOptions": "send_fully_qualified_url",
  "config.core.Http2ProtocolOptions": "allow_metadata custom_settings_parameters hpack_table_size",
  "config.core.KeepaliveSettings": "connection_idle_interval",
  "config.core.TcpKeepalive": "keepalive_probes keepalive_interval",
  "config.listener.FilterChain": "on_demand_configuration",
  "config.listener.Listener":
    "drain_type freebind socket_options tcp_fast_open_queue_length api_listener connection_balance_config enable_mptcp",
  "config.route.RetryPolicy": "rate_limited_retry_back_off",
  "config.route.Route": "tracing per_request_buffer_limit_bytes",
  "config.route.RouteAction":
    "metadata_match path_rewrite_policy early_data_policy retry_policy_typed_config cors " +
    "grpc_timeout_offset internal_redirect_policy internal_redirect_action max_internal_redirects hedge_policy",
  "config.route.RouteAction.UpgradeConfig.ConnectConfig": "proxy_protocol_config allow_post",
  "config.route.RouteConfiguration": "ignore_path_parameters_in_path_matching",
  "config.route.VirtualHost":
    "virtual_clusters cors retry_policy_typed_config hedge_policy include_is_timeout_retry_header " + "per_request_buffer_limit_bytes",
  "config.route.WeightedCluster": "runtime_key_prefix",
  "config.route.WeightedCluster.ClusterWeight": "metadata_match",
  "extensions.filters.common.set_filter_state.FilterStateValue": "read_only shared_with_upstream",
  "extensions.filters.http.ext_authz.ExtAuthz":
    "validate_mutations typed_metadata_context_namespaces route_typed_metadata_context_namespaces decoder_header_mutation_rules " +
    "enable_dynamic_metadata_ingestion bootstrap_metadata_labels_key",
  "extensions.filters.network.http_connection_manager.HttpConnectionManager":
    "tracing access_log_flush_interval flush_access_log_on_new_request access_log_options early_header_mutation_extensions " +
    "represent_ipv4_remote_address_as_ipv4_mapped_ipv6 path_normalization_options proxy_status_config " +
    "typed_header_validation_config append_local_overload",
  "extensions.filters.network.http_connection_manager.HttpConnectionManager.UpgradeConfig": "filters",
  "extensions.filters.network.tcp_proxy.TcpProxy":
    "metadata_match downstream_idle_timeout upstream_idle_timeout access_log_flush_interval flush_access_log_on_connected " +
    "access_log_options",
  "extensions.load_balancing_policies.common.LocalityLbConfig.ZoneAwareLbConfig": "routing_enabled min_cluster_size",
  "extensions.network.dns_resolver.cares.CaresDnsResolverConfig": "filter_unroutable_families rotate_nameservers",
  "extensions.upstreams.http.HttpProtocolOptions": "http_filters header_validation_config",
};

const compiled = new Map(Object.entries(fieldsWithoutEffect).map(([type, fields]) => [`envoy.${type}`, new Set(fields.split(" "))]));

function shortName({ typeName }: DescMessage): string {
  return typeName.replace(/\.v\d+(?:alpha|beta)?\d*\./, ".");
}

/** A sentence for each such field of the resource, with the first place where it stands. */
export function warningsOf(schema: DescMessage, message: Message): string[] {
  const found = new Map<string, { readonly place: string; more: number }>();
  const note = (what: string, place: string) => {
    const known = found.get(what);
    if (known) known.more++;
    else found.set(what, { place, more: 0 });
  };
  let resource = "";
  walkMessages(schema, message, envoyTypes, ({ desc, message: inner, parents }) => {
    if (parents.length === 0) resource = placeOf([inner]);
    const fields = compiled.get(shortName(desc));
    for (const name of fields ?? []) {
      const field = desc.fields.find((candidate) => candidate.name === name);
      if (field && inner.isSet(field)) note(`${desc.name}.${name} has no effect in this proxy`, placeOf([...parents.slice(1), inner]));
    }
    const special = specialCase(desc, inner, parents);
    if (special) note(special, placeOf([...parents.slice(1), inner]));
  });
  return [...found].map(([what, { place, more }]) => {
    const others = more === 0 ? "" : `, and ${more} more`;
    const where = place === "" || place === resource ? (more === 0 ? "" : ` (${more + 1} times)`) : ` (${place}${others})`;
    return `${resource}: ${what}${where}`;
  });
}

/** What depends on more than one field. */
function specialCase(desc: DescMessage, message: ReflectMessage, parents: readonly ReflectMessage[]): string | undefined {
  const has = (name: string) => message.isSet(desc.fields.find((field) => field.name === name)!);
  const cluster = parents[0] ?? message;
  switch (shortName(desc)) {
    case "envoy.config.core.HttpProtocolOptions":
      return shortName(cluster.desc) === "envoy.config.cluster.Cluster" && has("max_stream_duration")
        ? "HttpProtocolOptions.max_stream_duration has no effect in this proxy"
        : undefined;
    case "envoy.extensions.filters.network.http_connection_manager.HttpConnectionManager": {
      // UUIDs are what we make as well; what else that extension says is for tracing.
      const { requestIdExtension } = message.message as HttpConnectionManager;
      return requestIdExtension?.typedConfig && !requestIdExtension.typedConfig.typeUrl.endsWith(".uuid.v3.UuidRequestIdConfig")
        ? "HttpConnectionManager.request_id_extension has no effect in this proxy"
        : undefined;
    }
    default:
      return undefined;
  }
}

const nouns: Readonly<Record<string, string>> = {
  Cluster: "cluster",
  FilterChain: "filter chain",
  Listener: "listener",
  Route: "route",
  RouteConfiguration: "route configuration",
  VirtualHost: "virtual host",
};

/** `virtual host 'all', route 'reviews'`; messages without a noun or a name are left out. */
function placeOf(messages: readonly ReflectMessage[]): string {
  return messages
    .flatMap((message) => {
      const noun = nouns[message.desc.name];
      const name = nameOf(message);
      return noun === undefined || name === "" ? [] : [`${noun} '${name}'`];
    })
    .join(", ");
}

function nameOf(message: ReflectMessage): string {
  const { name } = message.message as unknown as { name?: unknown };
  return typeof name === "string" ? name : "";
}
