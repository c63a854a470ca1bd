/**
 * Extensions that a stock Envoy has and this proxy does not: an EnvoyFilter may name them for proxies that are Envoy. They are apart from
 * the types of every proxy's configuration, because only who reads EnvoyFilters needs them. What is not here either can be written as a
 * TypedStruct.
 */
import type { Registry } from "@bufbuild/protobuf";
import { registryOf } from "../descriptors/registry-of.ts";
import { file_envoy_extensions_access_loggers_fluentd_v3_fluentd } from "../gen/envoy/extensions/access_loggers/fluentd/v3/fluentd_pb.js";
import { file_envoy_extensions_clusters_dynamic_forward_proxy_v3_cluster } from "../gen/envoy/extensions/clusters/dynamic_forward_proxy/v3/cluster_pb.js";
import { file_envoy_extensions_clusters_redis_v3_redis_cluster } from "../gen/envoy/extensions/clusters/redis/v3/redis_cluster_pb.js";
import { file_envoy_extensions_compression_brotli_decompressor_v3_brotli } from "../gen/envoy/extensions/compression/brotli/decompressor/v3/brotli_pb.js";
import { file_envoy_extensions_compression_gzip_decompressor_v3_gzip } from "../gen/envoy/extensions/compression/gzip/decompressor/v3/gzip_pb.js";
import { file_envoy_extensions_compression_zstd_decompressor_v3_zstd } from "../gen/envoy/extensions/compression/zstd/decompressor/v3/zstd_pb.js";
import { file_envoy_extensions_filters_http_adaptive_concurrency_v3_adaptive_concurrency } from "../gen/envoy/extensions/filters/http/adaptive_concurrency/v3/adaptive_concurrency_pb.js";
import { file_envoy_extensions_filters_http_admission_control_v3_admission_control } from "../gen/envoy/extensions/filters/http/admission_control/v3/admission_control_pb.js";
import { file_envoy_extensions_filters_http_alternate_protocols_cache_v3_alternate_protocols_cache } from "../gen/envoy/extensions/filters/http/alternate_protocols_cache/v3/alternate_protocols_cache_pb.js";
import { file_envoy_extensions_filters_http_aws_lambda_v3_aws_lambda } from "../gen/envoy/extensions/filters/http/aws_lambda/v3/aws_lambda_pb.js";
import { file_envoy_extensions_filters_http_aws_request_signing_v3_aws_request_signing } from "../gen/envoy/extensions/filters/http/aws_request_signing/v3/aws_request_signing_pb.js";
import { file_envoy_extensions_filters_http_bandwidth_limit_v3_bandwidth_limit } from "../gen/envoy/extensions/filters/http/bandwidth_limit/v3/bandwidth_limit_pb.js";
import { file_envoy_extensions_filters_http_basic_auth_v3_basic_auth } from "../gen/envoy/extensions/filters/http/basic_auth/v3/basic_auth_pb.js";
import { file_envoy_extensions_filters_http_cache_v3_cache } from "../gen/envoy/extensions/filters/http/cache/v3/cache_pb.js";
import { file_envoy_extensions_filters_http_composite_v3_composite } from "../gen/envoy/extensions/filters/http/composite/v3/composite_pb.js";
import { file_envoy_extensions_filters_http_credential_injector_v3_credential_injector } from "../gen/envoy/extensions/filters/http/credential_injector/v3/credential_injector_pb.js";
import { file_envoy_extensions_filters_http_csrf_v3_csrf } from "../gen/envoy/extensions/filters/http/csrf/v3/csrf_pb.js";
import { file_envoy_extensions_filters_http_custom_response_v3_custom_response } from "../gen/envoy/extensions/filters/http/custom_response/v3/custom_response_pb.js";
import { file_envoy_extensions_filters_http_decompressor_v3_decompressor } from "../gen/envoy/extensions/filters/http/decompressor/v3/decompressor_pb.js";
import { file_envoy_extensions_filters_http_dynamic_forward_proxy_v3_dynamic_forward_proxy } from "../gen/envoy/extensions/filters/http/dynamic_forward_proxy/v3/dynamic_forward_proxy_pb.js";
import { file_envoy_extensions_filters_http_ext_proc_v3_ext_proc } from "../gen/envoy/extensions/filters/http/ext_proc/v3/ext_proc_pb.js";
import { file_envoy_extensions_filters_http_file_system_buffer_v3_file_system_buffer } from "../gen/envoy/extensions/filters/http/file_system_buffer/v3/file_system_buffer_pb.js";
import { file_envoy_extensions_filters_http_gcp_authn_v3_gcp_authn } from "../gen/envoy/extensions/filters/http/gcp_authn/v3/gcp_authn_pb.js";
import { file_envoy_extensions_filters_http_geoip_v3_geoip } from "../gen/envoy/extensions/filters/http/geoip/v3/geoip_pb.js";
import { file_envoy_extensions_filters_http_grpc_field_extraction_v3_config } from "../gen/envoy/extensions/filters/http/grpc_field_extraction/v3/config_pb.js";
import { file_envoy_extensions_filters_http_grpc_http1_bridge_v3_config } from "../gen/envoy/extensions/filters/http/grpc_http1_bridge/v3/config_pb.js";
import { file_envoy_extensions_filters_http_grpc_http1_reverse_bridge_v3_config } from "../gen/envoy/extensions/filters/http/grpc_http1_reverse_bridge/v3/config_pb.js";
import { file_envoy_extensions_filters_http_grpc_json_transcoder_v3_transcoder } from "../gen/envoy/extensions/filters/http/grpc_json_transcoder/v3/transcoder_pb.js";
import { file_envoy_extensions_filters_http_header_to_metadata_v3_header_to_metadata } from "../gen/envoy/extensions/filters/http/header_to_metadata/v3/header_to_metadata_pb.js";
import { file_envoy_extensions_filters_http_ip_tagging_v3_ip_tagging } from "../gen/envoy/extensions/filters/http/ip_tagging/v3/ip_tagging_pb.js";
import { file_envoy_extensions_filters_http_json_to_metadata_v3_json_to_metadata } from "../gen/envoy/extensions/filters/http/json_to_metadata/v3/json_to_metadata_pb.js";
import { file_envoy_extensions_filters_http_kill_request_v3_kill_request } from "../gen/envoy/extensions/filters/http/kill_request/v3/kill_request_pb.js";
import { file_envoy_extensions_filters_http_oauth2_v3_oauth } from "../gen/envoy/extensions/filters/http/oauth2/v3/oauth_pb.js";
import { file_envoy_extensions_filters_http_on_demand_v3_on_demand } from "../gen/envoy/extensions/filters/http/on_demand/v3/on_demand_pb.js";
import { file_envoy_extensions_filters_http_proto_message_logging_v3_config } from "../gen/envoy/extensions/filters/http/proto_message_logging/v3/config_pb.js";
import { file_envoy_extensions_filters_http_rate_limit_quota_v3_rate_limit_quota } from "../gen/envoy/extensions/filters/http/rate_limit_quota/v3/rate_limit_quota_pb.js";
import { file_envoy_extensions_filters_http_tap_v3_tap } from "../gen/envoy/extensions/filters/http/tap/v3/tap_pb.js";
import { file_envoy_extensions_filters_http_thrift_to_metadata_v3_thrift_to_metadata } from "../gen/envoy/extensions/filters/http/thrift_to_metadata/v3/thrift_to_metadata_pb.js";
import { file_envoy_extensions_filters_listener_local_ratelimit_v3_local_ratelimit } from "../gen/envoy/extensions/filters/listener/local_ratelimit/v3/local_ratelimit_pb.js";
import { file_envoy_extensions_filters_network_connection_limit_v3_connection_limit } from "../gen/envoy/extensions/filters/network/connection_limit/v3/connection_limit_pb.js";
import { file_envoy_extensions_filters_network_dubbo_proxy_v3_dubbo_proxy } from "../gen/envoy/extensions/filters/network/dubbo_proxy/v3/dubbo_proxy_pb.js";
import { file_envoy_extensions_filters_network_mongo_proxy_v3_mongo_proxy } from "../gen/envoy/extensions/filters/network/mongo_proxy/v3/mongo_proxy_pb.js";
import { file_envoy_extensions_filters_network_redis_proxy_v3_redis_proxy } from "../gen/envoy/extensions/filters/network/redis_proxy/v3/redis_proxy_pb.js";
import { file_envoy_extensions_filters_network_sni_dynamic_forward_proxy_v3_sni_dynamic_forward_proxy } from "../gen/envoy/extensions/filters/network/sni_dynamic_forward_proxy/v3/sni_dynamic_forward_proxy_pb.js";
import { file_envoy_extensions_filters_network_thrift_proxy_v3_thrift_proxy } from "../gen/envoy/extensions/filters/network/thrift_proxy/v3/thrift_proxy_pb.js";
import { file_envoy_extensions_filters_network_zookeeper_proxy_v3_zookeeper_proxy } from "../gen/envoy/extensions/filters/network/zookeeper_proxy/v3/zookeeper_proxy_pb.js";
import { file_envoy_extensions_rate_limit_descriptors_expr_v3_expr } from "../gen/envoy/extensions/rate_limit_descriptors/expr/v3/expr_pb.js";
import { envoyTypes } from "./type-registry.ts";

/** With the types of this proxy. */
export const patchTypes: Registry = registryOf(
  [
    file_envoy_extensions_access_loggers_fluentd_v3_fluentd,
    file_envoy_extensions_clusters_dynamic_forward_proxy_v3_cluster,
    file_envoy_extensions_clusters_redis_v3_redis_cluster,
    file_envoy_extensions_compression_brotli_decompressor_v3_brotli,
    file_envoy_extensions_compression_gzip_decompressor_v3_gzip,
    file_envoy_extensions_compression_zstd_decompressor_v3_zstd,
    file_envoy_extensions_filters_http_adaptive_concurrency_v3_adaptive_concurrency,
    file_envoy_extensions_filters_http_admission_control_v3_admission_control,
    file_envoy_extensions_filters_http_alternate_protocols_cache_v3_alternate_protocols_cache,
    file_envoy_extensions_filters_http_aws_lambda_v3_aws_lambda,
    file_envoy_extensions_filters_http_aws_request_signing_v3_aws_request_signing,
    file_envoy_extensions_filters_http_bandwidth_limit_v3_bandwidth_limit,
    file_envoy_extensions_filters_http_basic_auth_v3_basic_auth,
    file_envoy_extensions_filters_http_cache_v3_cache,
    file_envoy_extensions_filters_http_composite_v3_composite,
    file_envoy_extensions_filters_http_credential_injector_v3_credential_injector,
    file_envoy_extensions_filters_http_csrf_v3_csrf,
    file_envoy_extensions_filters_http_custom_response_v3_custom_response,
    file_envoy_extensions_filters_http_decompressor_v3_decompressor,
    file_envoy_extensions_filters_http_dynamic_forward_proxy_v3_dynamic_forward_proxy,
    file_envoy_extensions_filters_http_ext_proc_v3_ext_proc,
    file_envoy_extensions_filters_http_file_system_buffer_v3_file_system_buffer,
    file_envoy_extensions_filters_http_gcp_authn_v3_gcp_authn,
    file_envoy_extensions_filters_http_geoip_v3_geoip,
    file_envoy_extensions_filters_http_grpc_field_extraction_v3_config,
    file_envoy_extensions_filters_http_grpc_http1_bridge_v3_config,
    file_envoy_extensions_filters_http_grpc_http1_reverse_bridge_v3_config,
    file_envoy_extensions_filters_http_grpc_json_transcoder_v3_transcoder,
    file_envoy_extensions_filters_http_header_to_metadata_v3_header_to_metadata,
    file_envoy_extensions_filters_http_ip_tagging_v3_ip_tagging,
    file_envoy_extensions_filters_http_json_to_metadata_v3_json_to_metadata,
    file_envoy_extensions_filters_http_kill_request_v3_kill_request,
    file_envoy_extensions_filters_http_oauth2_v3_oauth,
    file_envoy_extensions_filters_http_on_demand_v3_on_demand,
    file_envoy_extensions_filters_http_proto_message_logging_v3_config,
    file_envoy_extensions_filters_http_rate_limit_quota_v3_rate_limit_quota,
    file_envoy_extensions_filters_http_tap_v3_tap,
    file_envoy_extensions_filters_http_thrift_to_metadata_v3_thrift_to_metadata,
    file_envoy_extensions_filters_listener_local_ratelimit_v3_local_ratelimit,
    file_envoy_extensions_filters_network_connection_limit_v3_connection_limit,
    file_envoy_extensions_filters_network_dubbo_proxy_v3_dubbo_proxy,
    file_envoy_extensions_filters_network_mongo_proxy_v3_mongo_proxy,
    file_envoy_extensions_filters_network_redis_proxy_v3_redis_proxy,
    file_envoy_extensions_filters_network_sni_dynamic_forward_proxy_v3_sni_dynamic_forward_proxy,
    file_envoy_extensions_filters_network_thrift_proxy_v3_thrift_proxy,
    file_envoy_extensions_filters_network_zookeeper_proxy_v3_zookeeper_proxy,
    file_envoy_extensions_rate_limit_descriptors_expr_v3_expr,
  ],
  envoyTypes,
);
