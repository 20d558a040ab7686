/// See module-info.
package cloister.devices;
