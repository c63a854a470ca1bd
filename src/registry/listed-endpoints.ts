/** EndpointSlices and Endpoints by the Service that they are of. */
import type { EndpointSlice } from "../api/kinds/endpoint-slice.ts";
import type { Endpoints } from "../api/kinds/endpoints.ts";
import type { ConfigObject } from "../api/kinds/object.ts";
import type { ObjectsOf } from "./registry.ts";

export class ListedEndpoints {
  readonly #slices = new Map<string, ConfigObject<EndpointSlice>[]>();
  readonly #tables = new Map<string, ConfigObject<Endpoints>>();

  constructor(objects: ObjectsOf) {
    for (const slice of objects("EndpointSlice") as ConfigObject<EndpointSlice>[]) {
      const service = slice.metadata.labels["kubernetes.io/service-name"];
      if (service === undefined) continue;
      const key = `${slice.metadata.namespace}/${service}`;
      const list = this.#slices.get(key);
      if (list) list.push(slice);
      else this.#slices.set(key, [slice]);
    }
    for (const table of objects("Endpoints") as ConfigObject<Endpoints>[]) {
      this.#tables.set(`${table.metadata.namespace}/${table.metadata.name}`, table);
    }
  }

  slices(namespace: string, service: string): readonly ConfigObject<EndpointSlice>[] {
    return this.#slices.get(`${namespace}/${service}`) ?? [];
  }

  table(namespace: string, service: string): ConfigObject<Endpoints> | undefined {
    return this.#tables.get(`${namespace}/${service}`);
  }
}
