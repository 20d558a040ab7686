/// The TDX module seen from outside: what no software on the platform may see. Records only; taken by
/// [cloister.tdx.TdxModule#inspect].
package cloister.tdx.inspect;
