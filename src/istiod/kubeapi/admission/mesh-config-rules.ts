import { isKind } from "../../../api/kinds/index.ts";
import type { ConfigObject } from "../../../api/kinds/object.ts";
import { decodeMeshConfig, decodeMeshNetworks } from "../../../api/mesh/decode-mesh.ts";
import { isMeshConfigMap, meshKey, networksKey } from "../mesh-config-map.ts";
import type { FieldProblem } from "./built-in-rules.ts";

/** The mesh's configuration is refused where it is written, not where it would be missed. */
export function meshConfigProblems(object: ConfigObject): FieldProblem[] {
  if (!isKind(object, "ConfigMap") || !isMeshConfigMap(object)) return [];
  const { data } = object.spec;
  const ofKey = (key: string, decode: typeof decodeMeshConfig | typeof decodeMeshNetworks) => {
    const text = data[key];
    if (text === undefined) return [];
    return decode(text, key).errors.map((error) => ({ field: `data[${key}]`, message: error.describe() }));
  };
  return [...ofKey(meshKey, decodeMeshConfig), ...ofKey(networksKey, decodeMeshNetworks)];
}
