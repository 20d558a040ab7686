/// See module-info.
package cloister.platform;
