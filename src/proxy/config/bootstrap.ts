/**
 * The bootstrap: from the command line's file and YAML to one checked message.
 *
 *     -c file (YAML or JSON by suffix)  ->  tree with places  ->  fields and types checked  ->  message
 *     --config-yaml                     ->  the same          ->  merged over it as protobuf merges: scalars replace,
 *                                                                 messages merge, lists grow
 *     then the constraints of the protos (ranges, required fields), and what only holds between parts
 *
 * Whatever is wrong is a ConfigError with Envoy's words, the field's path and, where there is a file, its line.
 */
import { create, mergeFromBinary, toBinary } from "@bufbuild/protobuf";
import { ConfigError } from "../../api/config-error.ts";
import { checkConstraints } from "../../api/envoy/constraints.ts";
import { pathText, readJson } from "../../api/envoy/read-json.ts";
import { envoyTypes } from "../../api/envoy/type-registry.ts";
import { type Bootstrap, BootstrapSchema } from "../../api/gen/envoy/config/bootstrap/v3/bootstrap_pb.js";
import { type ConfigText, loadConfigFile, parseConfigText } from "./config-text.ts";
import { completeWellKnownFilters } from "./well-known-filters.ts";

export interface BootstrapSource {
  readonly path?: string | undefined;
  readonly yaml?: string | undefined;
  /** What was read already, each laid over the one before; under what path and yaml say. */
  readonly texts?: readonly ConfigText[];
  /** Accept fields that no proto has, and count them. */
  readonly allowUnknownFields?: boolean;
}

export interface LoadedBootstrap {
  readonly bootstrap: Bootstrap;
  /** Fields that were ignored; server.static_unknown_fields. */
  readonly unknownFields: number;
  readonly warnings: readonly string[];
}

export function loadBootstrap(source: BootstrapSource): LoadedBootstrap {
  const texts: ConfigText[] = [...(source.texts ?? [])];
  if (source.path) texts.push(loadConfigFile(source.path));
  if (source.yaml) texts.push(parseConfigText(source.yaml, "--config-yaml"));
  if (texts.length === 0) {
    throw new ConfigError("At least one of --config-path or --config-yaml or Options::configProto() should be non-empty");
  }
  const warnings: string[] = [];
  let unknownFields = 0;
  const bootstrap = create(BootstrapSchema);
  for (const text of texts) {
    for (const name of new Set(completeWellKnownFilters(text.json))) {
      warnings.push(`filter '${name}' has no typed_config: its default configuration is used, which Envoy itself would refuse`);
    }
    const message = readJson(BootstrapSchema, text.json, {
      registry: envoyTypes,
      locate: (path) => text.locate(path),
      onNewerField: (path, typeName) => {
        warnings.push(`${pathText(path)} of ${typeName} is newer than this proxy and has no effect`);
      },
      ...(source.allowUnknownFields && {
        onUnknownField: (path, typeName) => {
          unknownFields++;
          warnings.push(`Unknown field: type ${typeName} with unknown field '${pathText(path)}'`);
        },
      }),
    });
    mergeFromBinary(BootstrapSchema, bootstrap, toBinary(BootstrapSchema, message));
  }
  const violation = checkConstraints(BootstrapSchema, bootstrap, envoyTypes);
  if (violation) {
    throw new ConfigError(`Proto constraint validation failed (${violation.message})`, {
      field: pathText(violation.path),
      position: texts.length === 1 ? texts[0]!.locate(violation.path) : undefined,
    });
  }
  checkClusterNames(bootstrap);
  for (const name of withoutEffect(bootstrap)) warnings.push(`${name} is not supported by this proxy and has no effect`);
  return { bootstrap, unknownFields, warnings };
}

/** Parts of a bootstrap that Envoy acts on and this proxy does not. Its traffic is served all the same. */
function withoutEffect(bootstrap: Bootstrap): string[] {
  const { tracing, statsSinks, overloadManager, hdsConfig, bootstrapExtensions, clusterManager } = bootstrap;
  return [
    ...(tracing ? ["tracing"] : []),
    ...statsSinks.map(({ name }) => `stats_sinks '${name}'`),
    ...(overloadManager ? ["overload_manager"] : []),
    ...(hdsConfig ? ["hds_config"] : []),
    ...bootstrapExtensions.map(({ name }) => `bootstrap_extensions '${name}'`),
    ...(clusterManager?.loadStatsConfig ? ["cluster_manager.load_stats_config"] : []),
  ];
}

function checkClusterNames(bootstrap: Bootstrap): void {
  const names = new Set<string>();
  for (const { name } of bootstrap.staticResources?.clusters ?? []) {
    if (names.has(name)) throw new ConfigError(`cluster manager: duplicate cluster '${name}'`);
    names.add(name);
  }
}
