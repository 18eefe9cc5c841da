using System.Collections.Frozen;
using Iced.Intel;

namespace Tutti.Cpu.Translator.Tests.Emitted;

/// <summary>What emitted code never holds, whatever its operands.</summary>
internal static class ForbiddenInstructions
{
    private static readonly FrozenSet<Mnemonic> Names = new[]
    {
        Mnemonic.Syscall, Mnemonic.Sysenter, Mnemonic.Sysret, Mnemonic.Sysretq, Mnemonic.Sysexit, Mnemonic.Sysexitq, Mnemonic.Int, Mnemonic.Int1,
        Mnemonic.Int3, Mnemonic.Into, Mnemonic.Iret, Mnemonic.Iretd, Mnemonic.Iretq, Mnemonic.In, Mnemonic.Out, Mnemonic.Insb, Mnemonic.Insw, Mnemonic.Insd,
        Mnemonic.Outsb, Mnemonic.Outsw, Mnemonic.Outsd, Mnemonic.Hlt, Mnemonic.Cli, Mnemonic.Sti, Mnemonic.Std, Mnemonic.Cld, Mnemonic.Rdtsc,
        Mnemonic.Rdtscp, Mnemonic.Rdpmc, Mnemonic.Rdpid, Mnemonic.Cpuid, Mnemonic.Wrfsbase, Mnemonic.Wrgsbase, Mnemonic.Rdfsbase, Mnemonic.Rdgsbase,
        Mnemonic.Sgdt, Mnemonic.Sidt, Mnemonic.Sldt, Mnemonic.Str, Mnemonic.Smsw, Mnemonic.Lar, Mnemonic.Lsl, Mnemonic.Verr, Mnemonic.Verw,
        Mnemonic.Lfs, Mnemonic.Lgs, Mnemonic.Lss, Mnemonic.Lds, Mnemonic.Les, Mnemonic.Ldmxcsr, Mnemonic.Vldmxcsr, Mnemonic.Stmxcsr, Mnemonic.Vstmxcsr,
        Mnemonic.Fldcw, Mnemonic.Fldenv, Mnemonic.Frstor, Mnemonic.Fxrstor, Mnemonic.Fxrstor64, Mnemonic.Fxsave, Mnemonic.Fxsave64, Mnemonic.Fnsave,
        Mnemonic.Fnstenv, Mnemonic.Xsave, Mnemonic.Xsave64, Mnemonic.Xsavec, Mnemonic.Xsavec64, Mnemonic.Xsaveopt, Mnemonic.Xsaveopt64, Mnemonic.Xrstor,
        Mnemonic.Xrstor64, Mnemonic.Xgetbv, Mnemonic.Xbegin, Mnemonic.Xend, Mnemonic.Xabort, Mnemonic.Monitor, Mnemonic.Mwait, Mnemonic.Umonitor,
        Mnemonic.Umwait, Mnemonic.Tpause, Mnemonic.Pushf, Mnemonic.Pushfd, Mnemonic.Pushfq, Mnemonic.Popf, Mnemonic.Popfd, Mnemonic.Popfq, Mnemonic.Wrpkru,
        Mnemonic.Rdpkru, Mnemonic.Vmcall, Mnemonic.Vmmcall, Mnemonic.Ud0, Mnemonic.Ud1, Mnemonic.Ud2, Mnemonic.Enter, Mnemonic.Leave,
        Mnemonic.Rdrand, Mnemonic.Rdseed,
    }.ToFrozenSet();

    /// <summary>Why an instruction is none of those that emitted code may hold; null where it may.</summary>
    public static string? Reason(in Instruction instruction)
    {
        if (Names.Contains(instruction.Mnemonic) || instruction.IsPrivileged)
        {
            return "is forbidden";
        }

        if (instruction.Encoding is not (EncodingKind.Legacy or EncodingKind.VEX))
        {
            return "has an encoding that is not copied";
        }

        if (instruction.IsStackInstruction && instruction.Code != Code.Call_rel32_64)
        {
            return "uses the host's stack";
        }

        if (instruction.SegmentPrefix is Register.FS or Register.GS)
        {
            return "reaches memory by FS or GS";
        }

        for (int i = 0; i < instruction.OpCount; i++)
        {
            if (instruction.GetOpKind(i) is OpKind.FarBranch16 or OpKind.FarBranch32)
            {
                return "leaves for another code segment";
            }

            Register register = instruction.GetOpKind(i) == OpKind.Register ? instruction.GetOpRegister(i) : Register.None;
            if (register.IsSegmentRegister() || register.IsCR() || register.IsDR() || register.IsTR())
            {
                return "names a segment or system register";
            }
        }

        return WritesRsp(instruction) ? "writes RSP" : null;
    }

    private static bool WritesRsp(in Instruction instruction)
    {
        foreach (UsedRegister used in new InstructionInfoFactory().GetInfo(instruction).GetUsedRegisters())
        {
            bool writes = used.Access is not (OpAccess.Read or OpAccess.CondRead or OpAccess.None or OpAccess.NoMemAccess);
            if (writes && used.Register.GetFullRegister() == Register.RSP && instruction.FlowControl != FlowControl.Call)
            {
                return true;
            }
        }

        return false;
    }
}
