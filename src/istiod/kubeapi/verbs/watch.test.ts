import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type ApiControlPlane, startApiControlPlane } from "../../../../test/support/api-control-plane.ts";
import { type ApiAnswer, type ApiWatch, callApi, type Kubeconfig, watchApi } from "../../../../test/support/kube-api.ts";

const workloadEntries = "/apis/networking.istio.io/v1/namespaces/default/workloadentries";
const everywhere = "/apis/networking.istio.io/v1/workloadentries";
const table = { accept: "application/json;as=Table;v=v1;g=meta.k8s.io,application/json" };
const partial = { accept: "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json" };
const partialList = { accept: "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json" };

interface Listed {
  readonly metadata: { readonly resourceVersion: string; readonly continue?: string; readonly remainingItemCount?: number };
  readonly items: { readonly metadata: { readonly name: string; readonly resourceVersion: string } }[];
}

describe("list and watch", () => {
  let plane: ApiControlPlane;
  let config: Kubeconfig;

  beforeAll(async () => {
    plane = await startApiControlPlane();
    ({ config } = plane);
  });
  afterAll(() => plane[Symbol.asyncDispose]());

  const create = (name: string, labels = {}) =>
    callApi(config, "POST", workloadEntries, { metadata: { name, labels }, spec: { address: "10.0.0.1" } });
  const remove = (name: string) => callApi(config, "DELETE", `${workloadEntries}/${name}`);
  const label = (name: string, labels: unknown) =>
    callApi(config, "PATCH", `${workloadEntries}/${name}`, { metadata: { labels } }, undefined, {
      "content-type": "application/merge-patch+json",
    });
  const list = async (query = "", headers = {}): Promise<Listed> => {
    const { code, body } = await callApi(config, "GET", `${workloadEntries}${query}`, undefined, undefined, headers);
    expect(code).toBe(200);
    return body as unknown as Listed;
  };
  const told = ({ events }: ApiWatch) =>
    events.map(({ type, object }) => `${type} ${(object.metadata as { name?: string })?.name ?? object.reason}`);
  const versionOf = ({ body }: ApiAnswer) => (body.metadata as { resourceVersion: string }).resourceVersion;

  it("tells what happens after a list, once each and in order", async () => {
    await create("before");
    const { metadata } = await list();
    await create("missed");
    using watch = await watchApi(config, `${workloadEntries}?watch=true&resourceVersion=${metadata.resourceVersion}`);
    await watch.seen(1);
    await create("after");
    await label("after", { a: "1" });
    await label("after", { a: "1" });
    const deleted = versionOf(await create("last"));
    await remove("before");
    await watch.seen(5);
    expect(told(watch)).toEqual(["ADDED missed", "ADDED after", "MODIFIED after", "ADDED last", "DELETED before"]);
    const versions = watch.events.map(({ object }) => Number((object.metadata as { resourceVersion: string }).resourceVersion));
    expect(versions).toEqual(versions.toSorted((a, b) => a - b));
    expect(versions.at(-1)).toBeGreaterThan(Number(deleted));
    expect(watch.events[0]!.object).toMatchObject({ apiVersion: "networking.istio.io/v1", kind: "WorkloadEntry" });
    for (const name of ["missed", "after", "last"]) await remove(name);
  });

  it("shows an object in whichever version is asked for", async () => {
    await callApi(config, "POST", "/apis/networking.istio.io/v1beta1/namespaces/default/workloadentries", {
      metadata: { name: "old" },
      spec: { address: "10.0.0.1" },
    });
    using watch = await watchApi(config, "/apis/networking.istio.io/v1alpha3/workloadentries?watch=true");
    await watch.seen(1);
    expect(watch.events[0]!.object.apiVersion).toBe("networking.istio.io/v1alpha3");
    expect((await list()).items[0]).toMatchObject({ apiVersion: "networking.istio.io/v1" });
    await remove("old");
  });

  it("tells what comes to match a selector and what leaves it", async () => {
    await create("inside", { app: "x" });
    using watch = await watchApi(config, `${everywhere}?watch=true&labelSelector=app%3Dx`);
    await create("outside");
    await label("outside", { app: "x" });
    await label("inside", { app: null });
    await remove("inside");
    await remove("outside");
    await watch.seen(4);
    expect(told(watch)).toEqual(["ADDED inside", "ADDED outside", "DELETED inside", "DELETED outside"]);
  });

  it("says tables' columns once, and metadata alone to who wants no more", async () => {
    await create("one");
    using rows = await watchApi(config, `${workloadEntries}?watch=true`, table);
    using metadata = await watchApi(config, `${workloadEntries}?watch=true`, partial);
    await label("one", { a: "1" });
    await rows.seen(2);
    await metadata.seen(2);
    expect(rows.events.map(({ object }) => [object.kind, (object.columnDefinitions as unknown[] | null)?.length ?? null])).toEqual([
      ["Table", 3],
      ["Table", null],
    ]);
    expect(rows.events[1]!.object.rows).toMatchObject([
      {
        cells: ["one", expect.stringMatching(/^\d+s$/), "10.0.0.1"],
        object: { kind: "PartialObjectMetadata", metadata: { labels: { a: "1" } } },
      },
    ]);
    expect(metadata.events[1]!.object).toEqual({
      kind: "PartialObjectMetadata",
      apiVersion: "meta.k8s.io/v1",
      metadata: expect.objectContaining({ name: "one" }),
    });
    expect(await list("", table)).toMatchObject({ kind: "Table", rows: [{ cells: ["one", expect.any(String), "10.0.0.1"] }] });
    expect(await list("?includeObject=None", table)).toMatchObject({ rows: [{ cells: expect.any(Array) }] });
    expect(await list("", partialList)).toMatchObject({ kind: "PartialObjectMetadataList", items: [{ metadata: { name: "one" } }] });
    await remove("one");
  });

  it("streams the list to informers, ended by a bookmark", async () => {
    await create("listed");
    using watch = await watchApi(
      config,
      `${workloadEntries}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&resourceVersion=0`,
    );
    await watch.seen(2);
    expect(watch.events).toMatchObject([
      { type: "ADDED", object: { metadata: { name: "listed" } } },
      {
        type: "BOOKMARK",
        object: {
          kind: "WorkloadEntry",
          metadata: {
            resourceVersion: (await list()).metadata.resourceVersion,
            annotations: { "k8s.io/initial-events-end": "true" },
          },
        },
      },
    ]);
    expect(await callApi(config, "GET", `${workloadEntries}?watch=true&sendInitialEvents=true`)).toMatchObject({ code: 422 });
    await remove("listed");
  });

  it("says that a version is too old, and ends when its time is over", async () => {
    using old = await watchApi(config, `${workloadEntries}?watch=true&resourceVersion=1`);
    await old.ended;
    expect(old.events).toMatchObject([{ type: "ERROR", object: { kind: "Status", code: 410, reason: "Expired" } }]);
    using short = await watchApi(config, `${workloadEntries}?watch=true&timeoutSeconds=1`);
    await short.ended;
    expect(short.events).toEqual([]);
  });

  it("pages a long list of one state, and serves many watchers of it", async () => {
    const names = Array.from({ length: 300 }, (_, index) => `bulk-${String(index).padStart(4, "0")}`);
    for (let index = 0; index < names.length; index += 30) await Promise.all(names.slice(index, index + 30).map((name) => create(name)));
    const first = await list("?limit=120");
    expect(first.metadata.remainingItemCount).toBe(180);
    await remove("bulk-0299");
    const second = await list(`?limit=120&continue=${first.metadata.continue}`);
    const third = await list(`?limit=120&continue=${second.metadata.continue}`);
    expect([first, second, third].flatMap(({ items }) => items.map(({ metadata }) => metadata.name))).toEqual(names);
    expect(new Set([first, second, third].map(({ metadata }) => metadata.resourceVersion)).size).toBe(1);
    expect(third.metadata.continue).toBeUndefined();

    const watches = await Promise.all(
      Array.from({ length: 50 }, () => watchApi(config, `${workloadEntries}?watch=true&resourceVersion=${first.metadata.resourceVersion}`)),
    );
    await create("bulk-new");
    await Promise.all(watches.map((watch) => watch.seen(2)));
    for (const watch of watches) {
      expect(told(watch)).toEqual(["DELETED bulk-0299", "ADDED bulk-new"]);
      watch[Symbol.dispose]();
    }
    expect(await callApi(config, "DELETE", `${workloadEntries}?fieldSelector=metadata.name!%3Dbulk-0001`)).toMatchObject({ code: 200 });
    expect((await list()).items.map(({ metadata }) => metadata.name)).toEqual(["bulk-0001"]);
    await remove("bulk-0001");
  });
});
