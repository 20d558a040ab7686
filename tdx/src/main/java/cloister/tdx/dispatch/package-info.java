/// The entry points of the module: SEAMCALL and VM exit.
package cloister.tdx.dispatch;
