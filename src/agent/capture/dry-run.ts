/** What would be done to the machine, said and not done; what only asks it is done. */
import { CommandError, type CommandRunner } from "./command-runner.ts";

export function onlySaying(run: CommandRunner, say: (text: string) => void): CommandRunner {
  return async (command, args, options) => {
    if (command.endsWith("-restore") || (command === "nft" && args[0] === "-f")) {
      say(options?.input ?? "");
      return "";
    }
    if (command === "ip" && args.some((word) => ["add", "delete", "replace", "flush"].includes(word))) {
      say(`${[command, ...args].join(" ")}\n`);
      // The same rule may be there several times; nobody is to wait until the last one is gone.
      if (args.includes("delete")) throw new CommandError("not done: dry run", 1);
      return "";
    }
    return run(command, args, options);
  };
}
