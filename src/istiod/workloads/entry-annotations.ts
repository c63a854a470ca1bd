/** What a WorkloadEntry says of the agent behind it. Source: istio/api annotations, Istio pilot/pkg/autoregistration. */
export const entryAnnotations = {
  /** WorkloadGroup from which the entry was made; without it the entry is the user's. */
  group: "istio.io/autoRegistrationGroup",
  /** Control plane to which the agent is connected. */
  controller: "istio.io/workloadController",
  connectedAt: "istio.io/connectedAt",
  disconnectedAt: "istio.io/disconnectedAt",
  /** `true`: the entry gets no traffic until its agent has said that the workload is well. */
  healthChecks: "proxy.istio.io/health-checks-enabled",
} as const;

export const healthyCondition = "Healthy";
