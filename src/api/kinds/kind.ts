import type { Schema } from "../schema/schema.ts";
import type { KindName } from "./object.ts";
import type { RawObject } from "./raw-fields.ts";

interface ColumnHead {
  readonly name: string;
  /** A `date` is shown as the time since. */
  readonly type: "string" | "integer" | "date" | "boolean";
  readonly description: string;
  /** Columns above 0 are shown with `-o wide` only. */
  readonly priority?: number;
}

/** A column of `kubectl get`: a field, as Kubernetes' additionalPrinterColumns, or what is worked out of the object as it was written. */
export type PrinterColumn = ColumnHead &
  (
    | { readonly jsonPath: string; readonly cell?: undefined }
    | { readonly cell: (raw: RawObject) => string | number; readonly jsonPath?: undefined }
  );

/** Paths below an object in Kubernetes' API: `status` is written apart from the rest, `scale` is the number of replicas alone. */
export type Subresource = "status" | "scale" | "token";

/** All there is to know about one kind of configuration; each is declared in its own file and listed in index.ts. */
export interface Kind<K extends KindName = KindName, Spec = unknown> {
  readonly kind: K;
  /** "" for Kubernetes' core group. */
  readonly group: string;
  /** Served versions, the preferred one first. */
  readonly versions: readonly [string, ...string[]];
  readonly plural: string;
  readonly singular: string;
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
  readonly namespaced: boolean;
  readonly subresources: readonly Subresource[];
  /** What `kubectl get` shows behind the name. */
  readonly columns: readonly PrinterColumn[];
  readonly schema: Schema<Spec>;
  /**
   * What the schema describes: the `spec` field; the whole object (`root`, a Secret has `data` beside `metadata`); or spec
   * and status taken together, where a reader wants both (a Pod's labels select, its status has the address).
   */
  readonly specAt: "spec" | "root" | "spec+status";
  /** Brings the object as written into the form that Kubernetes would store. */
  readonly normalize?: ((raw: Record<string, unknown>) => Record<string, unknown>) | undefined;
  /** What an API server fills in where the writer said nothing. Files are taken as they are: their readers know the defaults. */
  readonly defaults?: ((raw: RawObject) => Record<string, unknown>) | undefined;
  /** Fields by which `--field-selector` can choose, beside name and namespace, and what the object has there. */
  readonly selectableFields: Readonly<Record<string, (raw: RawObject) => string>>;
}

export const ageColumn: PrinterColumn = {
  name: "Age",
  type: "date",
  jsonPath: ".metadata.creationTimestamp",
  description: "When the object was made",
};

type IstioKindOptions<K extends KindName, Spec> = Pick<Kind<K, Spec>, "kind" | "group" | "versions" | "plural" | "schema"> & {
  readonly shortNames?: readonly string[];
  readonly columns?: readonly PrinterColumn[];
};

/** A kind of Istio's: namespaced, its message in `spec`, in the categories that its CRD names. */
export function defineIstioKind<K extends KindName, Spec>(options: IstioKindOptions<K, Spec>): Kind<K, Spec> {
  const area = options.group.slice(0, options.group.indexOf("."));
  return {
    shortNames: [],
    columns: [ageColumn],
    ...options,
    singular: options.kind.toLowerCase(),
    categories: ["istio-io", `${area}-istio-io`],
    namespaced: true,
    subresources: ["status"],
    specAt: "spec",
    selectableFields: {},
  };
}

type KubernetesKindOptions<K extends KindName, Spec> = Pick<Kind<K, Spec>, "kind" | "group" | "plural" | "schema" | "specAt"> &
  Partial<Pick<Kind<K, Spec>, "versions" | "shortNames" | "categories" | "namespaced" | "subresources" | "columns" | "normalize">> &
  Partial<Pick<Kind<K, Spec>, "defaults" | "selectableFields">>;

/** A record of Kubernetes' own, read leniently. */
export function defineKubernetesKind<K extends KindName, Spec>(options: KubernetesKindOptions<K, Spec>): Kind<K, Spec> {
  const versions = options.versions ?? (["v1"] as const);
  return {
    shortNames: [],
    categories: [],
    columns: [ageColumn],
    namespaced: true,
    subresources: [],
    selectableFields: {},
    ...options,
    versions,
    singular: options.kind.toLowerCase(),
  };
}
