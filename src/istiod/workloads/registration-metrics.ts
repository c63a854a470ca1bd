import { Counter, type Registry } from "prom-client";

/** Names are Istio's. */
export class RegistrationMetrics {
  readonly successes: Counter;
  readonly updates: Counter;
  readonly unregistrations: Counter;
  readonly deletes: Counter;
  readonly errors: Counter;

  constructor(registry: Registry) {
    const counter = (name: string, help: string) => new Counter({ name, help, registers: [registry] });
    this.successes = counter("auto_registration_success_total", "WorkloadEntries made for agents that connected.");
    this.updates = counter("auto_registration_updates_total", "WorkloadEntries whose agent connected again.");
    this.unregistrations = counter("auto_registration_unregister_total", "WorkloadEntries whose agent disconnected.");
    this.deletes = counter("auto_registration_deletes_total", "WorkloadEntries deleted after the grace period.");
    this.errors = counter("auto_registration_errors_total", "Registrations that failed.");
  }
}
