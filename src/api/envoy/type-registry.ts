/**
 * Every message type that may stand in an Any of our configuration: the extensions that Envoy and Istio configure, and the
 * messages of the admin interface. A type being here means that it can be read and shown; whether the proxy *implements*
 * an extension is decided where it is compiled.
 *
 * One line per .proto file, sorted. A new extension's file goes here and nowhere else.
 */
import type { DescMessage, Registry } from "@bufbuild/protobuf";
import {
  EmptySchema,
  file_google_protobuf_any,
  file_google_protobuf_duration,
  file_google_protobuf_empty,
  file_google_protobuf_struct,
  file_google_protobuf_timestamp,
  file_google_protobuf_wrappers,
} from "@bufbuild/protobuf/wkt";
import { registryOf } from "../descriptors/registry-of.ts";
import { file_envoy_admin_v3_certs } from "../gen/envoy/admin/v3/certs_pb.js";
import { file_envoy_admin_v3_clusters } from "../gen/envoy/admin/v3/clusters_pb.js";
import { file_envoy_admin_v3_config_dump } from "../gen/envoy/admin/v3/config_dump_pb.js";
import { file_envoy_admin_v3_config_dump_shared } from "../gen/envoy/admin/v3/config_dump_shared_pb.js";
import { file_envoy_admin_v3_init_dump } from "../gen/envoy/admin/v3/init_dump_pb.js";
import { file_envoy_admin_v3_listeners } from "../gen/envoy/admin/v3/listeners_pb.js";
import { file_envoy_admin_v3_memory } from "../gen/envoy/admin/v3/memory_pb.js";
import { file_envoy_admin_v3_server_info } from "../gen/envoy/admin/v3/server_info_pb.js";
import { file_envoy_config_bootstrap_v3_bootstrap } from "../gen/envoy/config/bootstrap/v3/bootstrap_pb.js";
import { file_envoy_config_cluster_v3_cluster } from "../gen/envoy/config/cluster/v3/cluster_pb.js";
import { file_envoy_config_core_v3_proxy_protocol } from "../gen/envoy/config/core/v3/proxy_protocol_pb.js";
import { file_envoy_config_endpoint_v3_endpoint } from "../gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { file_envoy_config_listener_v3_listener } from "../gen/envoy/config/listener/v3/listener_pb.js";
import { file_envoy_config_metrics_v3_metrics_service } from "../gen/envoy/config/metrics/v3/metrics_service_pb.js";
import { file_envoy_config_metrics_v3_stats } from "../gen/envoy/config/metrics/v3/stats_pb.js";
import { file_envoy_config_rbac_v3_rbac } from "../gen/envoy/config/rbac/v3/rbac_pb.js";
import { file_envoy_config_route_v3_route_components } from "../gen/envoy/config/route/v3/route_components_pb.js";
import { file_envoy_config_route_v3_route } from "../gen/envoy/config/route/v3/route_pb.js";
import { file_envoy_config_route_v3_scoped_route } from "../gen/envoy/config/route/v3/scoped_route_pb.js";
import { file_envoy_config_trace_v3_datadog } from "../gen/envoy/config/trace/v3/datadog_pb.js";
import { file_envoy_config_trace_v3_http_tracer } from "../gen/envoy/config/trace/v3/http_tracer_pb.js";
import { file_envoy_config_trace_v3_lightstep } from "../gen/envoy/config/trace/v3/lightstep_pb.js";
import { file_envoy_config_trace_v3_opentelemetry } from "../gen/envoy/config/trace/v3/opentelemetry_pb.js";
import { file_envoy_config_trace_v3_skywalking } from "../gen/envoy/config/trace/v3/skywalking_pb.js";
import { file_envoy_config_trace_v3_zipkin } from "../gen/envoy/config/trace/v3/zipkin_pb.js";
import { file_envoy_extensions_access_loggers_file_v3_file } from "../gen/envoy/extensions/access_loggers/file/v3/file_pb.js";
import { file_envoy_extensions_access_loggers_filters_cel_v3_cel } from "../gen/envoy/extensions/access_loggers/filters/cel/v3/cel_pb.js";
import { file_envoy_extensions_access_loggers_grpc_v3_als } from "../gen/envoy/extensions/access_loggers/grpc/v3/als_pb.js";
import { file_envoy_extensions_access_loggers_stream_v3_stream } from "../gen/envoy/extensions/access_loggers/stream/v3/stream_pb.js";
import { file_envoy_extensions_bootstrap_internal_listener_v3_internal_listener } from "../gen/envoy/extensions/bootstrap/internal_listener/v3/internal_listener_pb.js";
import { file_envoy_extensions_compression_brotli_compressor_v3_brotli } from "../gen/envoy/extensions/compression/brotli/compressor/v3/brotli_pb.js";
import { file_envoy_extensions_compression_gzip_compressor_v3_gzip } from "../gen/envoy/extensions/compression/gzip/compressor/v3/gzip_pb.js";
import { file_envoy_extensions_compression_zstd_compressor_v3_zstd } from "../gen/envoy/extensions/compression/zstd/compressor/v3/zstd_pb.js";
import { file_envoy_extensions_early_data_v3_default_early_data_policy } from "../gen/envoy/extensions/early_data/v3/default_early_data_policy_pb.js";
import { file_envoy_extensions_filters_common_fault_v3_fault } from "../gen/envoy/extensions/filters/common/fault/v3/fault_pb.js";
import { file_envoy_extensions_filters_http_buffer_v3_buffer } from "../gen/envoy/extensions/filters/http/buffer/v3/buffer_pb.js";
import { file_envoy_extensions_filters_http_compressor_v3_compressor } from "../gen/envoy/extensions/filters/http/compressor/v3/compressor_pb.js";
import { file_envoy_extensions_filters_http_cors_v3_cors } from "../gen/envoy/extensions/filters/http/cors/v3/cors_pb.js";
import { file_envoy_extensions_filters_http_ext_authz_v3_ext_authz } from "../gen/envoy/extensions/filters/http/ext_authz/v3/ext_authz_pb.js";
import { file_envoy_extensions_filters_http_fault_v3_fault } from "../gen/envoy/extensions/filters/http/fault/v3/fault_pb.js";
import { file_envoy_extensions_filters_http_grpc_stats_v3_config } from "../gen/envoy/extensions/filters/http/grpc_stats/v3/config_pb.js";
import { file_envoy_extensions_filters_http_grpc_web_v3_grpc_web } from "../gen/envoy/extensions/filters/http/grpc_web/v3/grpc_web_pb.js";
import { file_envoy_extensions_filters_http_header_mutation_v3_header_mutation } from "../gen/envoy/extensions/filters/http/header_mutation/v3/header_mutation_pb.js";
import { file_envoy_extensions_filters_http_health_check_v3_health_check } from "../gen/envoy/extensions/filters/http/health_check/v3/health_check_pb.js";
import { file_envoy_extensions_filters_http_jwt_authn_v3_config } from "../gen/envoy/extensions/filters/http/jwt_authn/v3/config_pb.js";
import { file_envoy_extensions_filters_http_local_ratelimit_v3_local_rate_limit } from "../gen/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit_pb.js";
import { file_envoy_extensions_filters_http_lua_v3_lua } from "../gen/envoy/extensions/filters/http/lua/v3/lua_pb.js";
import { file_envoy_extensions_filters_http_original_src_v3_original_src } from "../gen/envoy/extensions/filters/http/original_src/v3/original_src_pb.js";
import { file_envoy_extensions_filters_http_ratelimit_v3_rate_limit } from "../gen/envoy/extensions/filters/http/ratelimit/v3/rate_limit_pb.js";
import { file_envoy_extensions_filters_http_rbac_v3_rbac } from "../gen/envoy/extensions/filters/http/rbac/v3/rbac_pb.js";
import { file_envoy_extensions_filters_http_router_v3_router } from "../gen/envoy/extensions/filters/http/router/v3/router_pb.js";
import { file_envoy_extensions_filters_http_set_filter_state_v3_set_filter_state } from "../gen/envoy/extensions/filters/http/set_filter_state/v3/set_filter_state_pb.js";
import { file_envoy_extensions_filters_http_set_metadata_v3_set_metadata } from "../gen/envoy/extensions/filters/http/set_metadata/v3/set_metadata_pb.js";
import { file_envoy_extensions_filters_http_stateful_session_v3_stateful_session } from "../gen/envoy/extensions/filters/http/stateful_session/v3/stateful_session_pb.js";
import { file_envoy_extensions_filters_http_upstream_codec_v3_upstream_codec } from "../gen/envoy/extensions/filters/http/upstream_codec/v3/upstream_codec_pb.js";
import { file_envoy_extensions_filters_http_wasm_v3_wasm } from "../gen/envoy/extensions/filters/http/wasm/v3/wasm_pb.js";
import { file_envoy_extensions_filters_listener_http_inspector_v3_http_inspector } from "../gen/envoy/extensions/filters/listener/http_inspector/v3/http_inspector_pb.js";
import { file_envoy_extensions_filters_listener_original_dst_v3_original_dst } from "../gen/envoy/extensions/filters/listener/original_dst/v3/original_dst_pb.js";
import { file_envoy_extensions_filters_listener_original_src_v3_original_src } from "../gen/envoy/extensions/filters/listener/original_src/v3/original_src_pb.js";
import { file_envoy_extensions_filters_listener_proxy_protocol_v3_proxy_protocol } from "../gen/envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol_pb.js";
import { file_envoy_extensions_filters_listener_tls_inspector_v3_tls_inspector } from "../gen/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector_pb.js";
import { file_envoy_extensions_filters_network_direct_response_v3_config } from "../gen/envoy/extensions/filters/network/direct_response/v3/config_pb.js";
import { file_envoy_extensions_filters_network_echo_v3_echo } from "../gen/envoy/extensions/filters/network/echo/v3/echo_pb.js";
import { file_envoy_extensions_filters_network_ext_authz_v3_ext_authz } from "../gen/envoy/extensions/filters/network/ext_authz/v3/ext_authz_pb.js";
import { file_envoy_extensions_filters_network_http_connection_manager_v3_http_connection_manager } from "../gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { file_envoy_extensions_filters_network_local_ratelimit_v3_local_rate_limit } from "../gen/envoy/extensions/filters/network/local_ratelimit/v3/local_rate_limit_pb.js";
import { file_envoy_extensions_filters_network_ratelimit_v3_rate_limit } from "../gen/envoy/extensions/filters/network/ratelimit/v3/rate_limit_pb.js";
import { file_envoy_extensions_filters_network_rbac_v3_rbac } from "../gen/envoy/extensions/filters/network/rbac/v3/rbac_pb.js";
import { file_envoy_extensions_filters_network_set_filter_state_v3_set_filter_state } from "../gen/envoy/extensions/filters/network/set_filter_state/v3/set_filter_state_pb.js";
import { file_envoy_extensions_filters_network_sni_cluster_v3_sni_cluster } from "../gen/envoy/extensions/filters/network/sni_cluster/v3/sni_cluster_pb.js";
import { file_envoy_extensions_filters_network_tcp_proxy_v3_tcp_proxy } from "../gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js";
import { file_envoy_extensions_formatter_cel_v3_cel } from "../gen/envoy/extensions/formatter/cel/v3/cel_pb.js";
import { file_envoy_extensions_formatter_metadata_v3_metadata } from "../gen/envoy/extensions/formatter/metadata/v3/metadata_pb.js";
import { file_envoy_extensions_formatter_req_without_query_v3_req_without_query } from "../gen/envoy/extensions/formatter/req_without_query/v3/req_without_query_pb.js";
import { file_envoy_extensions_health_check_event_sinks_file_v3_file } from "../gen/envoy/extensions/health_check/event_sinks/file/v3/file_pb.js";
import { file_envoy_extensions_http_early_header_mutation_header_mutation_v3_header_mutation } from "../gen/envoy/extensions/http/early_header_mutation/header_mutation/v3/header_mutation_pb.js";
import { file_envoy_extensions_http_header_formatters_preserve_case_v3_preserve_case } from "../gen/envoy/extensions/http/header_formatters/preserve_case/v3/preserve_case_pb.js";
import { file_envoy_extensions_http_header_validators_envoy_default_v3_header_validator } from "../gen/envoy/extensions/http/header_validators/envoy_default/v3/header_validator_pb.js";
import { file_envoy_extensions_http_original_ip_detection_custom_header_v3_custom_header } from "../gen/envoy/extensions/http/original_ip_detection/custom_header/v3/custom_header_pb.js";
import { file_envoy_extensions_http_original_ip_detection_xff_v3_xff } from "../gen/envoy/extensions/http/original_ip_detection/xff/v3/xff_pb.js";
import { file_envoy_extensions_http_stateful_session_cookie_v3_cookie } from "../gen/envoy/extensions/http/stateful_session/cookie/v3/cookie_pb.js";
import { file_envoy_extensions_http_stateful_session_header_v3_header } from "../gen/envoy/extensions/http/stateful_session/header/v3/header_pb.js";
import { file_envoy_extensions_internal_redirect_allow_listed_routes_v3_allow_listed_routes_config } from "../gen/envoy/extensions/internal_redirect/allow_listed_routes/v3/allow_listed_routes_config_pb.js";
import { file_envoy_extensions_internal_redirect_previous_routes_v3_previous_routes_config } from "../gen/envoy/extensions/internal_redirect/previous_routes/v3/previous_routes_config_pb.js";
import { file_envoy_extensions_internal_redirect_safe_cross_scheme_v3_safe_cross_scheme_config } from "../gen/envoy/extensions/internal_redirect/safe_cross_scheme/v3/safe_cross_scheme_config_pb.js";
import { file_envoy_extensions_load_balancing_policies_cluster_provided_v3_cluster_provided } from "../gen/envoy/extensions/load_balancing_policies/cluster_provided/v3/cluster_provided_pb.js";
import { file_envoy_extensions_load_balancing_policies_least_request_v3_least_request } from "../gen/envoy/extensions/load_balancing_policies/least_request/v3/least_request_pb.js";
import { file_envoy_extensions_load_balancing_policies_maglev_v3_maglev } from "../gen/envoy/extensions/load_balancing_policies/maglev/v3/maglev_pb.js";
import { file_envoy_extensions_load_balancing_policies_pick_first_v3_pick_first } from "../gen/envoy/extensions/load_balancing_policies/pick_first/v3/pick_first_pb.js";
import { file_envoy_extensions_load_balancing_policies_random_v3_random } from "../gen/envoy/extensions/load_balancing_policies/random/v3/random_pb.js";
import { file_envoy_extensions_load_balancing_policies_ring_hash_v3_ring_hash } from "../gen/envoy/extensions/load_balancing_policies/ring_hash/v3/ring_hash_pb.js";
import { file_envoy_extensions_load_balancing_policies_round_robin_v3_round_robin } from "../gen/envoy/extensions/load_balancing_policies/round_robin/v3/round_robin_pb.js";
import { file_envoy_extensions_load_balancing_policies_wrr_locality_v3_wrr_locality } from "../gen/envoy/extensions/load_balancing_policies/wrr_locality/v3/wrr_locality_pb.js";
import { file_envoy_extensions_matching_common_inputs_network_v3_network_inputs } from "../gen/envoy/extensions/matching/common_inputs/network/v3/network_inputs_pb.js";
import { file_envoy_extensions_matching_common_inputs_ssl_v3_ssl_inputs } from "../gen/envoy/extensions/matching/common_inputs/ssl/v3/ssl_inputs_pb.js";
import { file_envoy_extensions_matching_input_matchers_ip_v3_ip } from "../gen/envoy/extensions/matching/input_matchers/ip/v3/ip_pb.js";
import { file_envoy_extensions_network_dns_resolver_cares_v3_cares_dns_resolver } from "../gen/envoy/extensions/network/dns_resolver/cares/v3/cares_dns_resolver_pb.js";
import { file_envoy_extensions_network_dns_resolver_getaddrinfo_v3_getaddrinfo_dns_resolver } from "../gen/envoy/extensions/network/dns_resolver/getaddrinfo/v3/getaddrinfo_dns_resolver_pb.js";
import { file_envoy_extensions_network_socket_interface_v3_default_socket_interface } from "../gen/envoy/extensions/network/socket_interface/v3/default_socket_interface_pb.js";
import { file_envoy_extensions_path_match_uri_template_v3_uri_template_match } from "../gen/envoy/extensions/path/match/uri_template/v3/uri_template_match_pb.js";
import { file_envoy_extensions_path_rewrite_uri_template_v3_uri_template_rewrite } from "../gen/envoy/extensions/path/rewrite/uri_template/v3/uri_template_rewrite_pb.js";
import { file_envoy_extensions_regex_engines_v3_google_re2 } from "../gen/envoy/extensions/regex_engines/v3/google_re2_pb.js";
import { file_envoy_extensions_request_id_uuid_v3_uuid } from "../gen/envoy/extensions/request_id/uuid/v3/uuid_pb.js";
import { file_envoy_extensions_resource_monitors_downstream_connections_v3_downstream_connections } from "../gen/envoy/extensions/resource_monitors/downstream_connections/v3/downstream_connections_pb.js";
import { file_envoy_extensions_resource_monitors_fixed_heap_v3_fixed_heap } from "../gen/envoy/extensions/resource_monitors/fixed_heap/v3/fixed_heap_pb.js";
import { file_envoy_extensions_resource_monitors_injected_resource_v3_injected_resource } from "../gen/envoy/extensions/resource_monitors/injected_resource/v3/injected_resource_pb.js";
import { file_envoy_extensions_retry_host_omit_canary_hosts_v3_omit_canary_hosts } from "../gen/envoy/extensions/retry/host/omit_canary_hosts/v3/omit_canary_hosts_pb.js";
import { file_envoy_extensions_retry_host_omit_host_metadata_v3_omit_host_metadata_config } from "../gen/envoy/extensions/retry/host/omit_host_metadata/v3/omit_host_metadata_config_pb.js";
import { file_envoy_extensions_retry_host_previous_hosts_v3_previous_hosts } from "../gen/envoy/extensions/retry/host/previous_hosts/v3/previous_hosts_pb.js";
import { file_envoy_extensions_retry_priority_previous_priorities_v3_previous_priorities_config } from "../gen/envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config_pb.js";
import { file_envoy_extensions_transport_sockets_internal_upstream_v3_internal_upstream } from "../gen/envoy/extensions/transport_sockets/internal_upstream/v3/internal_upstream_pb.js";
import { file_envoy_extensions_transport_sockets_proxy_protocol_v3_upstream_proxy_protocol } from "../gen/envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol_pb.js";
import { file_envoy_extensions_transport_sockets_raw_buffer_v3_raw_buffer } from "../gen/envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer_pb.js";
import { file_envoy_extensions_transport_sockets_tcp_stats_v3_tcp_stats } from "../gen/envoy/extensions/transport_sockets/tcp_stats/v3/tcp_stats_pb.js";
import { file_envoy_extensions_transport_sockets_tls_v3_secret } from "../gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { file_envoy_extensions_transport_sockets_tls_v3_tls } from "../gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { file_envoy_extensions_transport_sockets_tls_v3_tls_spiffe_validator_config } from "../gen/envoy/extensions/transport_sockets/tls/v3/tls_spiffe_validator_config_pb.js";
import { file_envoy_extensions_upstreams_http_generic_v3_generic_connection_pool } from "../gen/envoy/extensions/upstreams/http/generic/v3/generic_connection_pool_pb.js";
import { file_envoy_extensions_upstreams_http_http_v3_http_connection_pool } from "../gen/envoy/extensions/upstreams/http/http/v3/http_connection_pool_pb.js";
import { file_envoy_extensions_upstreams_http_tcp_v3_tcp_connection_pool } from "../gen/envoy/extensions/upstreams/http/tcp/v3/tcp_connection_pool_pb.js";
import { file_envoy_extensions_upstreams_http_v3_http_protocol_options } from "../gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js";
import { file_envoy_extensions_upstreams_tcp_generic_v3_generic_connection_pool } from "../gen/envoy/extensions/upstreams/tcp/generic/v3/generic_connection_pool_pb.js";
import { file_envoy_extensions_upstreams_tcp_v3_tcp_protocol_options } from "../gen/envoy/extensions/upstreams/tcp/v3/tcp_protocol_options_pb.js";
import { file_envoy_service_discovery_v3_discovery } from "../gen/envoy/service/discovery/v3/discovery_pb.js";
import { file_envoy_tcp_metadataexchange_config_metadata_exchange } from "../gen/envoy/tcp/metadataexchange/config/metadata_exchange_pb.js";
import { file_envoy_type_matcher_v3_http_inputs } from "../gen/envoy/type/matcher/v3/http_inputs_pb.js";
import { file_istio_alpn_config } from "../gen/istio/alpn/config_pb.js";
import { file_istio_http_peer_metadata_config } from "../gen/istio/http/peer_metadata/config_pb.js";
import { file_istio_networking_nds_v1_nds } from "../gen/istio/networking/nds/v1/nds_pb.js";
import { file_istio_stats_plugin_config } from "../gen/istio/stats/plugin_config_pb.js";
import { file_udpa_type_v1_typed_struct } from "../gen/udpa/type/v1/typed_struct_pb.js";
import { file_xds_type_matcher_v3_domain } from "../gen/xds/type/matcher/v3/domain_pb.js";
import { file_xds_type_matcher_v3_http_inputs } from "../gen/xds/type/matcher/v3/http_inputs_pb.js";
import { file_xds_type_matcher_v3_ip } from "../gen/xds/type/matcher/v3/ip_pb.js";
import { file_xds_type_matcher_v3_matcher } from "../gen/xds/type/matcher/v3/matcher_pb.js";
import { file_xds_type_v3_typed_struct } from "../gen/xds/type/v3/typed_struct_pb.js";

const files = [
  file_google_protobuf_any,
  file_google_protobuf_duration,
  file_google_protobuf_empty,
  file_google_protobuf_struct,
  file_google_protobuf_timestamp,
  file_google_protobuf_wrappers,
  file_envoy_admin_v3_certs,
  file_envoy_admin_v3_clusters,
  file_envoy_admin_v3_config_dump,
  file_envoy_admin_v3_config_dump_shared,
  file_envoy_admin_v3_init_dump,
  file_envoy_admin_v3_listeners,
  file_envoy_admin_v3_memory,
  file_envoy_admin_v3_server_info,
  file_envoy_config_bootstrap_v3_bootstrap,
  file_envoy_config_cluster_v3_cluster,
  file_envoy_config_core_v3_proxy_protocol,
  file_envoy_config_endpoint_v3_endpoint,
  file_envoy_config_listener_v3_listener,
  file_envoy_config_metrics_v3_metrics_service,
  file_envoy_config_metrics_v3_stats,
  file_envoy_config_trace_v3_datadog,
  file_envoy_config_trace_v3_lightstep,
  file_envoy_config_trace_v3_opentelemetry,
  file_envoy_config_trace_v3_zipkin,
  file_envoy_config_trace_v3_skywalking,
  file_envoy_config_rbac_v3_rbac,
  file_envoy_config_route_v3_route,
  file_envoy_config_route_v3_route_components,
  file_envoy_config_route_v3_scoped_route,
  file_envoy_config_trace_v3_http_tracer,
  file_envoy_extensions_access_loggers_file_v3_file,
  file_envoy_extensions_access_loggers_filters_cel_v3_cel,
  file_envoy_extensions_access_loggers_grpc_v3_als,
  file_envoy_extensions_access_loggers_stream_v3_stream,
  file_envoy_extensions_bootstrap_internal_listener_v3_internal_listener,
  file_envoy_extensions_compression_brotli_compressor_v3_brotli,
  file_envoy_extensions_compression_zstd_compressor_v3_zstd,
  file_envoy_extensions_compression_gzip_compressor_v3_gzip,
  file_envoy_extensions_early_data_v3_default_early_data_policy,
  file_envoy_extensions_filters_common_fault_v3_fault,
  file_envoy_extensions_filters_http_buffer_v3_buffer,
  file_envoy_extensions_filters_http_compressor_v3_compressor,
  file_envoy_extensions_filters_http_cors_v3_cors,
  file_envoy_extensions_filters_http_ext_authz_v3_ext_authz,
  file_envoy_extensions_filters_http_fault_v3_fault,
  file_envoy_extensions_filters_http_grpc_stats_v3_config,
  file_envoy_extensions_filters_http_grpc_web_v3_grpc_web,
  file_envoy_extensions_filters_http_header_mutation_v3_header_mutation,
  file_envoy_extensions_filters_http_health_check_v3_health_check,
  file_envoy_extensions_filters_http_jwt_authn_v3_config,
  file_envoy_extensions_filters_http_local_ratelimit_v3_local_rate_limit,
  file_envoy_extensions_filters_http_lua_v3_lua,
  file_envoy_extensions_filters_http_original_src_v3_original_src,
  file_envoy_extensions_filters_http_ratelimit_v3_rate_limit,
  file_envoy_extensions_filters_http_rbac_v3_rbac,
  file_envoy_extensions_filters_http_router_v3_router,
  file_envoy_extensions_filters_http_set_filter_state_v3_set_filter_state,
  file_envoy_extensions_filters_http_set_metadata_v3_set_metadata,
  file_envoy_extensions_filters_http_stateful_session_v3_stateful_session,
  file_envoy_extensions_filters_http_upstream_codec_v3_upstream_codec,
  file_envoy_extensions_filters_http_wasm_v3_wasm,
  file_envoy_extensions_filters_listener_http_inspector_v3_http_inspector,
  file_envoy_extensions_filters_listener_original_dst_v3_original_dst,
  file_envoy_extensions_filters_listener_original_src_v3_original_src,
  file_envoy_extensions_filters_listener_proxy_protocol_v3_proxy_protocol,
  file_envoy_extensions_filters_listener_tls_inspector_v3_tls_inspector,
  file_envoy_extensions_filters_network_direct_response_v3_config,
  file_envoy_extensions_filters_network_echo_v3_echo,
  file_envoy_extensions_filters_network_ext_authz_v3_ext_authz,
  file_envoy_extensions_filters_network_http_connection_manager_v3_http_connection_manager,
  file_envoy_extensions_filters_network_local_ratelimit_v3_local_rate_limit,
  file_envoy_extensions_filters_network_ratelimit_v3_rate_limit,
  file_envoy_extensions_filters_network_rbac_v3_rbac,
  file_envoy_extensions_filters_network_set_filter_state_v3_set_filter_state,
  file_envoy_extensions_filters_network_sni_cluster_v3_sni_cluster,
  file_envoy_extensions_filters_network_tcp_proxy_v3_tcp_proxy,
  file_envoy_extensions_formatter_cel_v3_cel,
  file_envoy_extensions_formatter_metadata_v3_metadata,
  file_envoy_extensions_formatter_req_without_query_v3_req_without_query,
  file_envoy_extensions_health_check_event_sinks_file_v3_file,
  file_envoy_extensions_http_early_header_mutation_header_mutation_v3_header_mutation,
  file_envoy_extensions_http_header_formatters_preserve_case_v3_preserve_case,
  file_envoy_extensions_http_header_validators_envoy_default_v3_header_validator,
  file_envoy_extensions_http_original_ip_detection_custom_header_v3_custom_header,
  file_envoy_extensions_http_original_ip_detection_xff_v3_xff,
  file_envoy_extensions_http_stateful_session_cookie_v3_cookie,
  file_envoy_extensions_http_stateful_session_header_v3_header,
  file_envoy_extensions_internal_redirect_allow_listed_routes_v3_allow_listed_routes_config,
  file_envoy_extensions_internal_redirect_previous_routes_v3_previous_routes_config,
  file_envoy_extensions_internal_redirect_safe_cross_scheme_v3_safe_cross_scheme_config,
  file_envoy_extensions_load_balancing_policies_cluster_provided_v3_cluster_provided,
  file_envoy_extensions_load_balancing_policies_least_request_v3_least_request,
  file_envoy_extensions_load_balancing_policies_maglev_v3_maglev,
  file_envoy_extensions_load_balancing_policies_pick_first_v3_pick_first,
  file_envoy_extensions_load_balancing_policies_random_v3_random,
  file_envoy_extensions_load_balancing_policies_ring_hash_v3_ring_hash,
  file_envoy_extensions_load_balancing_policies_round_robin_v3_round_robin,
  file_envoy_extensions_load_balancing_policies_wrr_locality_v3_wrr_locality,
  file_envoy_extensions_matching_common_inputs_network_v3_network_inputs,
  file_envoy_extensions_matching_common_inputs_ssl_v3_ssl_inputs,
  file_envoy_extensions_matching_input_matchers_ip_v3_ip,
  file_envoy_extensions_network_dns_resolver_cares_v3_cares_dns_resolver,
  file_envoy_extensions_network_dns_resolver_getaddrinfo_v3_getaddrinfo_dns_resolver,
  file_envoy_extensions_network_socket_interface_v3_default_socket_interface,
  file_envoy_extensions_path_match_uri_template_v3_uri_template_match,
  file_envoy_extensions_path_rewrite_uri_template_v3_uri_template_rewrite,
  file_envoy_extensions_regex_engines_v3_google_re2,
  file_envoy_extensions_request_id_uuid_v3_uuid,
  file_envoy_extensions_resource_monitors_downstream_connections_v3_downstream_connections,
  file_envoy_extensions_resource_monitors_fixed_heap_v3_fixed_heap,
  file_envoy_extensions_resource_monitors_injected_resource_v3_injected_resource,
  file_envoy_extensions_retry_host_omit_canary_hosts_v3_omit_canary_hosts,
  file_envoy_extensions_retry_host_omit_host_metadata_v3_omit_host_metadata_config,
  file_envoy_extensions_retry_host_previous_hosts_v3_previous_hosts,
  file_envoy_extensions_retry_priority_previous_priorities_v3_previous_priorities_config,
  file_envoy_extensions_transport_sockets_internal_upstream_v3_internal_upstream,
  file_envoy_extensions_transport_sockets_proxy_protocol_v3_upstream_proxy_protocol,
  file_envoy_extensions_transport_sockets_raw_buffer_v3_raw_buffer,
  file_envoy_extensions_transport_sockets_tcp_stats_v3_tcp_stats,
  file_envoy_extensions_transport_sockets_tls_v3_secret,
  file_envoy_extensions_transport_sockets_tls_v3_tls,
  file_envoy_extensions_transport_sockets_tls_v3_tls_spiffe_validator_config,
  file_envoy_extensions_upstreams_http_generic_v3_generic_connection_pool,
  file_envoy_extensions_upstreams_http_http_v3_http_connection_pool,
  file_envoy_extensions_upstreams_http_tcp_v3_tcp_connection_pool,
  file_envoy_extensions_upstreams_http_v3_http_protocol_options,
  file_envoy_extensions_upstreams_tcp_generic_v3_generic_connection_pool,
  file_envoy_extensions_upstreams_tcp_v3_tcp_protocol_options,
  file_envoy_service_discovery_v3_discovery,
  file_envoy_tcp_metadataexchange_config_metadata_exchange,
  file_envoy_type_matcher_v3_http_inputs,
  file_istio_alpn_config,
  file_istio_http_peer_metadata_config,
  file_istio_networking_nds_v1_nds,
  file_istio_stats_plugin_config,
  file_udpa_type_v1_typed_struct,
  file_xds_type_matcher_v3_domain,
  file_xds_type_matcher_v3_http_inputs,
  file_xds_type_matcher_v3_ip,
  file_xds_type_matcher_v3_matcher,
  file_xds_type_v3_typed_struct,
];

export const envoyTypes: Registry = registryOf(files);

/** As `envoyTypes`, but an unknown type passes as an empty message: dumps show its name where they can't show its content. */
export const lenientEnvoyTypes: Registry = {
  ...envoyTypes,
  [Symbol.iterator]: () => envoyTypes[Symbol.iterator](),
  getMessage: (typeName: string): DescMessage => envoyTypes.getMessage(typeName) ?? EmptySchema,
};
