/// Gets real guests: Debian packages by name from the machine's own mirror, unpacked into a cache outside the repository.
package cloister.cli.guest;
