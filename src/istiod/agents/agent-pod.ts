/** A connected proxy, or this control plane, as the API shows it: a Pod that nobody has to write down. */
import type { Connected } from "../discovery-server.ts";
import type { PodName } from "./pod-name.ts";

type RawPod = Record<string, unknown>;

interface PodFacts {
  readonly pod: PodName;
  readonly labels: Readonly<Record<string, string>>;
  readonly serviceAccount: string;
  readonly container: string;
  readonly addresses: readonly string[];
  readonly startedAt: Date;
  /** Why it is not ready. */
  readonly problem: string | undefined;
}

export function podOfAgent(pod: PodName, { proxy, connectedAt, isReady, healthProblem }: Connected): RawPod {
  return podOf({
    pod,
    labels: proxy.labels,
    serviceAccount: proxy.serviceAccount || "default",
    container: "istio-proxy",
    addresses: proxy.ipAddresses,
    startedAt: connectedAt,
    problem: isReady ? healthProblem : "the proxy has not taken its listeners yet",
  });
}

export function podOfControlPlane(pod: PodName, startedAt: Date): RawPod {
  return podOf({
    pod,
    labels: { app: "istiod", istio: "pilot", "istio.io/rev": "default" },
    serviceAccount: "istiod",
    container: "discovery",
    addresses: [],
    startedAt,
    problem: undefined,
  });
}

function podOf({ pod, labels, serviceAccount, container, addresses, startedAt, problem }: PodFacts): RawPod {
  const time = startedAt.toISOString().replace(/\.\d+Z$/, "Z");
  const isReady = problem === undefined;
  const readiness = { status: isReady ? "True" : "False", ...(isReady ? {} : { reason: "ContainersNotReady", message: problem }) };
  const [podIP] = addresses;
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { ...pod, labels },
    spec: { serviceAccountName: serviceAccount, containers: [{ name: container }] },
    status: {
      phase: "Running",
      startTime: time,
      ...(podIP === undefined ? {} : { podIP, podIPs: addresses.map((ip) => ({ ip })) }),
      conditions: [
        { type: "Initialized", status: "True" },
        { type: "Ready", ...readiness },
        { type: "ContainersReady", ...readiness },
        { type: "PodScheduled", status: "True" },
      ],
      containerStatuses: [{ name: container, ready: isReady, started: true, restartCount: 0, state: { running: { startedAt: time } } }],
    },
  };
}
