/** Of this release, as package.json has it: for where no file can be read. */
export const VERSION = "0.1.0";
