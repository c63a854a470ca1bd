import { Command } from "commander";
import type { IstioctlCommand } from "../command.ts";
import { entryConfigureCommand } from "../workload/entry-configure.ts";
import { groupCreateCommand } from "../workload/group-create.ts";
import { inviteCommand } from "../workload/invite.ts";

export const experimental: IstioctlCommand = {
  name: "experimental",
  create: (context) => {
    const group = new Command("group").summary("Commands dealing with WorkloadGroup resources").addCommand(groupCreateCommand(context));
    const entry = new Command("entry").summary("Commands dealing with WorkloadEntry resources").addCommand(entryConfigureCommand(context));
    const workload = new Command("workload")
      .summary("Commands to assist in configuring and deploying workloads running on VMs and other non-Kubernetes environments")
      .addCommand(group)
      .addCommand(entry)
      .addCommand(inviteCommand(context));
    return new Command("experimental")
      .aliases(["x", "exp"])
      .summary("Experimental commands that may be modified or deprecated")
      .addCommand(workload);
  },
};
