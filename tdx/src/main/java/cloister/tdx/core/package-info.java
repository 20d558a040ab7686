/// The module itself: state, locks, leaves, guest transitions, virtualisation. Not exported.
package cloister.tdx.core;
