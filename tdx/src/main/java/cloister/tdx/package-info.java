/// See module-info.
package cloister.tdx;
