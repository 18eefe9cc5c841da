using Tutti.X86;

namespace Tutti.Cpu.Kvm;

/// <summary>Segment registers between KVM's form and ours.</summary>
internal static class KvmSegments
{
    internal static SegmentRegister ToRegister(this in KvmSegment s)
    {
        int attributes = (s.Type & 0xF) | (s.S & 1) << 4 | (s.Dpl & 3) << SegmentAttributes.DplShift | (s.Present & 1) << 7
            | (s.Avl & 1) << 12 | (s.L & 1) << 13 | (s.Db & 1) << 14 | (s.G & 1) << 15;
        return new SegmentRegister(s.Selector, s.Base, s.Limit, (ushort)(s.Unusable != 0 ? attributes & ~SegmentAttributes.Present : attributes));
    }

    internal static KvmSegment ToKvm(this in SegmentRegister r)
    {
        int attributes = r.Attributes;
        return new KvmSegment
        {
            Base = r.Base,
            Limit = r.Limit,
            Selector = r.Selector,
            Type = (byte)(attributes & SegmentAttributes.TypeMask),
            S = (byte)((attributes >> 4) & 1),
            Dpl = (byte)((attributes >> SegmentAttributes.DplShift) & 3),
            Present = (byte)((attributes >> 7) & 1),
            Avl = (byte)((attributes >> 12) & 1),
            L = (byte)((attributes >> 13) & 1),
            Db = (byte)((attributes >> 14) & 1),
            G = (byte)((attributes >> 15) & 1),
            // A register that was loaded with a null selector: VT-x wants to be told.
            Unusable = (byte)((attributes & SegmentAttributes.Present) == 0 ? 1 : 0),
        };
    }
}
