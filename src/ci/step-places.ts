/** Where things of a step stand inside its container: Bitbucket's own paths, which users write into their scripts. */
const AGENT_DIR = "/opt/atlassian/pipelines/agent";
export const CLONE_DIR = `${AGENT_DIR}/build`;
export const SCRIPTS_DIR = `${AGENT_DIR}/scripts`;
