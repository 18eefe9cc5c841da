using Iced.Intel;

namespace Tutti.Cpu.Interpreter;

/// <summary>Picks the handlers of <see cref="SseMoves"/>.</summary>
internal static unsafe class SseMoveTranslator
{
    public static bool TryTranslate(in Instruction instruction, Op* op, in TranslationContext context)
    {
        bool toMemory = instruction.Op0Kind == OpKind.Memory;
        bool fromMemory = instruction.OpCount > 1 && instruction.Op1Kind == OpKind.Memory;
        if (!toMemory && !fromMemory)
        {
            return TryRegisters(instruction, op);
        }

        return toMemory ? TryStore(instruction, op, context.Address) : TryLoad(instruction, op, context.Address);
    }

    private static bool TryRegisters(in Instruction instruction, Op* op)
    {
        switch (instruction.Code)
        {
            case Code.Movups_xmm_xmmm128 or Code.Movups_xmmm128_xmm or Code.Movupd_xmm_xmmm128 or Code.Movupd_xmmm128_xmm
                or Code.Movaps_xmm_xmmm128 or Code.Movaps_xmmm128_xmm or Code.Movapd_xmm_xmmm128 or Code.Movapd_xmmm128_xmm
                or Code.Movdqa_xmm_xmmm128 or Code.Movdqa_xmmm128_xmm or Code.Movdqu_xmm_xmmm128 or Code.Movdqu_xmmm128_xmm:
                op->Handler = &SseMoves.Copy128;
                break;
            case Code.Movq_xmm_xmmm64 or Code.Movq_xmmm64_xmm or Code.Movq_xmm_rm64:
                op->Handler = &SseMoves.Copy<W64, ClearXmm>;
                break;
            case Code.Movd_xmm_rm32:
                op->Handler = &SseMoves.Copy<W32, ClearXmm>;
                break;
            case Code.Movq_rm64_xmm:
                op->Handler = &SseMoves.Copy<W64, ClearGeneral>;
                break;
            case Code.Movd_rm32_xmm:
                op->Handler = &SseMoves.Copy<W32, ClearGeneral>;
                break;
            case Code.Movsd_xmm_xmmm64 or Code.Movsd_xmmm64_xmm:
                op->Handler = &SseMoves.Copy<W64, KeepRest>;
                break;
            case Code.Movss_xmm_xmmm32 or Code.Movss_xmmm32_xmm:
                op->Handler = &SseMoves.Copy<W32, KeepRest>;
                break;
            case Code.Movhlps_xmm_xmm:
                op->Handler = &SseMoves.Copy<W64, KeepRest>;
                return SetOffsets(instruction, op, 0, 8);
            case Code.Movlhps_xmm_xmm:
                op->Handler = &SseMoves.Copy<W64, KeepRest>;
                return SetOffsets(instruction, op, 8, 0);
            case Code.Pxor_xmm_xmmm128 or Code.Xorps_xmm_xmmm128 or Code.Xorpd_xmm_xmmm128
                when instruction.Op0Register == instruction.Op1Register:
                op->Handler = &SseMoves.Clear128;
                break;
            case Code.Pextrb_r32m8_xmm_imm8 or Code.Pextrb_r64m8_xmm_imm8:
                op->Handler = &SseMoves.Copy<W8, ClearGeneral>;
                return SetOffsets(instruction, op, 0, instruction.Immediate8 & 15);
            case Code.Pextrw_r32m16_xmm_imm8 or Code.Pextrw_r64m16_xmm_imm8 or Code.Pextrw_r32_xmm_imm8 or Code.Pextrw_r64_xmm_imm8:
                op->Handler = &SseMoves.Copy<W16, ClearGeneral>;
                return SetOffsets(instruction, op, 0, (instruction.Immediate8 & 7) * 2);
            case Code.Pextrd_rm32_xmm_imm8 or Code.Extractps_rm32_xmm_imm8 or Code.Extractps_r64m32_xmm_imm8:
                op->Handler = &SseMoves.Copy<W32, ClearGeneral>;
                return SetOffsets(instruction, op, 0, (instruction.Immediate8 & 3) * 4);
            case Code.Pextrq_rm64_xmm_imm8:
                op->Handler = &SseMoves.Copy<W64, ClearGeneral>;
                return SetOffsets(instruction, op, 0, (instruction.Immediate8 & 1) * 8);
            default:
                return false;
        }

        return SetOffsets(instruction, op, 0, 0);
    }

    private static bool TryLoad(in Instruction instruction, Op* op, AddressKind address)
    {
        int toUpper = 0;
        switch (instruction.Code)
        {
            case Code.Movups_xmm_xmmm128 or Code.Movupd_xmm_xmmm128 or Code.Movdqu_xmm_xmmm128 or Code.Lddqu_xmm_m128:
                op->Handler = Load128<Unaligned>(address);
                break;
            case Code.Movaps_xmm_xmmm128 or Code.Movapd_xmm_xmmm128 or Code.Movdqa_xmm_xmmm128 or Code.Movntdqa_xmm_m128:
                op->Handler = Load128<Aligned>(address);
                break;
            case Code.Movq_xmm_xmmm64 or Code.Movsd_xmm_xmmm64 or Code.Movq_xmm_rm64:
                op->Handler = Load<W64, ClearXmm>(address);
                break;
            case Code.Movd_xmm_rm32 or Code.Movss_xmm_xmmm32:
                op->Handler = Load<W32, ClearXmm>(address);
                break;
            case Code.Movlps_xmm_m64 or Code.Movlpd_xmm_m64:
                op->Handler = Load<W64, KeepRest>(address);
                break;
            case Code.Movhps_xmm_m64 or Code.Movhpd_xmm_m64:
                op->Handler = Load<W64, KeepRest>(address);
                toUpper = 8;
                break;
            default:
                return false;
        }

        op->Target = VectorTranslator.OffsetOf(instruction.Op0Register) + toUpper;
        return true;
    }

    private static bool TryStore(in Instruction instruction, Op* op, AddressKind address)
    {
        int element = 0;
        switch (instruction.Code)
        {
            case Code.Movups_xmmm128_xmm or Code.Movupd_xmmm128_xmm or Code.Movdqu_xmmm128_xmm:
                op->Handler = Store128<Unaligned>(address);
                break;
            case Code.Movaps_xmmm128_xmm or Code.Movapd_xmmm128_xmm or Code.Movdqa_xmmm128_xmm
                or Code.Movntps_m128_xmm or Code.Movntpd_m128_xmm or Code.Movntdq_m128_xmm:
                op->Handler = Store128<Aligned>(address);
                break;
            case Code.Movq_xmmm64_xmm or Code.Movsd_xmmm64_xmm or Code.Movq_rm64_xmm or Code.Movlps_m64_xmm or Code.Movlpd_m64_xmm:
                op->Handler = Store<W64>(address);
                break;
            case Code.Movhps_m64_xmm or Code.Movhpd_m64_xmm:
                op->Handler = Store<W64>(address);
                element = 8;
                break;
            case Code.Movd_rm32_xmm or Code.Movss_xmmm32_xmm:
                op->Handler = Store<W32>(address);
                break;
            case Code.Pextrb_r32m8_xmm_imm8 or Code.Pextrb_r64m8_xmm_imm8:
                op->Handler = Store<W8>(address);
                element = instruction.Immediate8 & 15;
                break;
            case Code.Pextrw_r32m16_xmm_imm8 or Code.Pextrw_r64m16_xmm_imm8:
                op->Handler = Store<W16>(address);
                element = (instruction.Immediate8 & 7) * 2;
                break;
            case Code.Pextrd_rm32_xmm_imm8 or Code.Extractps_rm32_xmm_imm8 or Code.Extractps_r64m32_xmm_imm8:
                op->Handler = Store<W32>(address);
                element = (instruction.Immediate8 & 3) * 4;
                break;
            case Code.Pextrq_rm64_xmm_imm8:
                op->Handler = Store<W64>(address);
                element = (instruction.Immediate8 & 1) * 8;
                break;
            case Code.Movnti_m32_r32:
                op->Handler = &SseMoves.StoreGeneral<W32>;
                break;
            case Code.Movnti_m64_r64:
                op->Handler = &SseMoves.StoreGeneral<W64>;
                break;
            default:
                return false;
        }

        op->Target = (VectorTranslator.OffsetOf(instruction.Op1Register) + element) << 16;
        return true;
    }

    private static bool SetOffsets(in Instruction instruction, Op* op, int inDestination, int inSource)
    {
        op->Target = (VectorTranslator.OffsetOf(instruction.Op0Register) + inDestination)
            | ((VectorTranslator.OffsetOf(instruction.Op1Register) + inSource) << 16);
        return true;
    }

    private static delegate*<CpuState*, Op*, Op*> Load128<TAligned>(AddressKind address)
        where TAligned : struct, IAlignment => address switch
        {
            AddressKind.Flat => &SseMoves.Load128<FlatAddress, TAligned>,
            AddressKind.Long => &SseMoves.Load128<LongAddress, TAligned>,
            _ => &SseMoves.Load128<SegmentedAddress, TAligned>,
        };

    private static delegate*<CpuState*, Op*, Op*> Store128<TAligned>(AddressKind address)
        where TAligned : struct, IAlignment => address switch
        {
            AddressKind.Flat => &SseMoves.Store128<FlatAddress, TAligned>,
            AddressKind.Long => &SseMoves.Store128<LongAddress, TAligned>,
            _ => &SseMoves.Store128<SegmentedAddress, TAligned>,
        };

    private static delegate*<CpuState*, Op*, Op*> Load<TWidth, TRest>(AddressKind address)
        where TWidth : struct, IWidth
        where TRest : struct, IRest => address switch
        {
            AddressKind.Flat => &SseMoves.Load<FlatAddress, TWidth, TRest>,
            AddressKind.Long => &SseMoves.Load<LongAddress, TWidth, TRest>,
            _ => &SseMoves.Load<SegmentedAddress, TWidth, TRest>,
        };

    private static delegate*<CpuState*, Op*, Op*> Store<TWidth>(AddressKind address)
        where TWidth : struct, IWidth => address switch
        {
            AddressKind.Flat => &SseMoves.Store<FlatAddress, TWidth>,
            AddressKind.Long => &SseMoves.Store<LongAddress, TWidth>,
            _ => &SseMoves.Store<SegmentedAddress, TWidth>,
        };
}
