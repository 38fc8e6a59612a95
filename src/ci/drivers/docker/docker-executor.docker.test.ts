import { describeStepExecutor } from "../contract.ts";
import { openDockerSubject } from "./docker-subject.ts";

describeStepExecutor("docker", openDockerSubject);
