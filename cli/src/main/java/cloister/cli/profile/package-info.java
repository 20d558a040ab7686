/// Profiles of guests: samples, the symbols that name them, reports.
package cloister.cli.profile;
