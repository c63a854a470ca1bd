/**
 * OpenAPI v3 of each group version: what clients look up before they apply (which kinds there are, that the server checks fields itself),
 * and what `kubectl explain` shows. Made when it is asked for the first time.
 */
import { type Document, documentOf, documentOfBytes } from "../discovery.ts";
import { apiVersionOf, groups, type Resource, resourcesOf } from "../resources.ts";
import { typeOfKind } from "../types/object-types.ts";
import { Components } from "./json-schema.ts";

const apiVersions = groups.flatMap(({ name, versions }) => versions.map((version) => apiVersionOf(name, version)));

/** `api/v1`, `apis/apps/v1` */
function pathOf(apiVersion: string): string {
  return apiVersion.includes("/") ? `apis/${apiVersion}` : `api/${apiVersion}`;
}

/**
 * OpenAPI v2, for clients before 1.27, which take it as protobuf alone: a document without definitions (swagger, info, paths), whereupon
 * they leave it to the server to check what they send.
 */
const openApiV2 = documentOfBytes(
  Buffer.from("\n\x032.0\x12\x10\n\nKubernetes\x12\x02v1B\0"),
  "application/octet-stream", // what it is called in Accept headers, old clients do not take for a media type
);

const documents = new Map<string, Document>();
let index: Document | undefined;

/** Undefined when the path is none of OpenAPI's. */
export function openApiDocument(path: string): Document | undefined {
  if (path === "/openapi/v3") {
    const entry = (apiVersion: string) => ({
      serverRelativeURL: `/openapi/v3/${pathOf(apiVersion)}?hash=${groupDocument(apiVersion).etag.replaceAll('"', "")}`,
    });
    index ??= documentOf({ paths: Object.fromEntries(apiVersions.map((apiVersion) => [pathOf(apiVersion), entry(apiVersion)])) });
    return index;
  }
  if (path === "/openapi/v2") return openApiV2;
  const apiVersion = apiVersions.find((one) => path === `/openapi/v3/${pathOf(one)}`);
  return apiVersion === undefined ? undefined : groupDocument(apiVersion);
}

function groupDocument(apiVersion: string): Document {
  const known = documents.get(apiVersion);
  if (known) return known;
  const components = new Components(apiVersion.replaceAll("/", "."));
  const resources = resourcesOf(apiVersion);
  const paths = Object.fromEntries(resources.flatMap((resource) => pathsOf(resource, components)));
  const made = documentOf({
    openapi: "3.0.0",
    info: { title: "Kubernetes", version: apiVersion },
    paths,
    components: { schemas: components.schemas },
  });
  documents.set(apiVersion, made);
  return made;
}

function pathsOf(resource: Resource, components: Components): [string, unknown][] {
  const { kind, version, apiVersion } = resource;
  const identity = { group: kind.group, version, kind: kind.kind };
  const type = typeOfKind(kind);
  const reference = components.schemaOf(type);
  const name = (reference.allOf as { $ref: string }[])[0]!.$ref.split("/").at(-1)!;
  components.schemas[name] = { ...components.schemas[name], "x-kubernetes-group-version-kind": [identity] };
  const collection = `/${pathOf(apiVersion)}/${kind.namespaced ? "namespaces/{namespace}/" : ""}${kind.plural}`;
  const content = { "application/json": { schema: reference.allOf ? (reference.allOf as unknown[])[0] : reference } };
  const operation = (action: string, parameters: readonly string[]) => ({
    "x-kubernetes-action": action,
    "x-kubernetes-group-version-kind": identity,
    parameters: parameters.map((parameter) => ({ name: parameter, in: "query", schema: { type: "string" } })),
    responses: { "200": { description: "OK", content } },
  });
  const writing = ["dryRun", "fieldManager", "fieldValidation"];
  return [
    [
      collection,
      { get: operation("list", ["labelSelector", "fieldSelector", "limit", "continue", "watch"]), post: operation("post", writing) },
    ],
    [
      `${collection}/{name}`,
      {
        get: operation("get", []),
        put: operation("put", writing),
        patch: operation("patch", [...writing, "force"]),
        delete: operation("delete", ["dryRun"]),
      },
    ],
  ];
}
