/// See module-info.
package cloister.cli;
